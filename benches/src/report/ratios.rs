// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table of ratios: this library, `vm-memory`, and the limit.

use super::{Case, cases, figure, ratio, table};
use crate::record::Record;
use crate::statistics::geometric_mean;

/// Makes the table, with the means below it.
///
/// # Errors
///
/// What the record lacks.
pub fn ratios(record: &Record) -> Result<String, String> {
    let cases = cases(record)?;
    let below = summary(&cases);
    let rows: Vec<_> = cases
        .into_iter()
        .map(|case| {
            [
                case.name,
                figure(Some(case.ours)),
                figure(case.theirs),
                ratio(case.ratio),
                figure(case.limit),
                figure(case.over_limit),
                case.limit_is,
            ]
        })
        .collect();
    let table = table(
        [
            "case",
            ">ours ns",
            ">vm-memory ns",
            ">ratio",
            ">limit ns",
            ">over limit",
            "limit is",
        ],
        &rows,
    );
    Ok(table + &below)
}

fn summary(cases: &[Case]) -> String {
    let ratios: Vec<(f64, &str)> = cases
        .iter()
        .filter_map(|case| Some((case.ratio?, case.name.as_str())))
        .collect();
    let worst = ratios.iter().min_by(|a, b| a.0.total_cmp(&b.0));
    let Some((worst_ratio, worst_case)) = worst else {
        return String::new();
    };
    let alone: Vec<f64> = ratios.iter().map(|&(ratio, _)| ratio).collect();
    format!(
        "\n{} cases. Geometric mean of the ratios: {:.2}. Worst case: {worst_ratio:.2} ({worst_case}). \
         Slower than vm-memory: {}.\n",
        alone.len(),
        geometric_mean(&alone),
        alone.iter().filter(|&&ratio| ratio < 1.0).count(),
    )
}
