// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The plots by their files' names.

use super::themes::THEMES;
use super::{Records, origin, runs};
use crate::plot::{short, time};
use crate::record::Record;
use crate::report::{Case, HARVESTS, LOOKUPS, cases, speed};
use crate::svg::{Bars, Caption, Lines, Panel, Row, Scale, Series};

const OURS: Series = Series {
    name: "this library",
    color: "#2166ac",
};
const THEIRS: Series = Series {
    name: "vm-memory 0.18",
    color: "#e08214",
};
const LIMIT: Series = Series {
    name: "limit: the work by hand",
    color: "#9a9a9a",
};

/// Makes all plots.
pub(super) fn all(records: &Records) -> Result<Vec<(String, String)>, String> {
    let mut plots = Vec::new();
    for profile in ["release", "lto"] {
        let record = records.newest(&format!("compare-{profile}"))?;
        let cases = cases(&record)?;
        for theme in THEMES
            .iter()
            .filter(|theme| theme.profiles.contains(&profile))
        {
            let cases = theme.of(&cases)?;
            let rows = rows(&cases, theme.known, |case| {
                vec![Some(case.ours), case.theirs, case.limit]
            });
            let limit = Series {
                name: theme.limit,
                ..LIMIT
            };
            let series = [OURS, THEIRS, limit];
            let text = bars(&record, theme.title, &series, &rows)?;
            plots.push((format!("{}-{profile}.svg", theme.file), text));
        }
    }
    plots.push((
        "window.svg".to_owned(),
        window(&records.newest("limits-release")?)?,
    ));
    plots.push((
        "lookups.svg".to_owned(),
        lookups(&records.newest("lookups")?)?,
    ));
    plots.push((
        "harvests.svg".to_owned(),
        harvests(&records.newest("harvests")?)?,
    ));
    plots.push((
        "prefault.svg".to_owned(),
        prefault(&records.newest("prefault")?)?,
    ));
    plots.push(("flat.svg".to_owned(), flat(&records.newest("flat")?)?));
    Ok(plots)
}

fn caption(record: &Record, title: &str, unit: &str) -> Result<Caption, String> {
    Ok(Caption {
        title: title.to_owned(),
        unit: format!("{unit}, {}", runs(record)?),
        origin: origin(record)?,
    })
}

fn rows(cases: &[&Case], known: &str, values: fn(&Case) -> Vec<Option<f64>>) -> Vec<Row> {
    let row = |case: &&Case| Row {
        name: case
            .name
            .strip_prefix(known)
            .unwrap_or(&case.name)
            .to_owned(),
        values: values(case),
    };
    cases.iter().map(row).collect()
}

/// Bars of times.
fn bars(record: &Record, title: &str, series: &[Series], rows: &[Row]) -> Result<String, String> {
    let caption = caption(
        record,
        title,
        "Time of one operation on a logarithmic scale, less is better",
    )?;
    let values = rows
        .iter()
        .flat_map(|row| row.values.iter().flatten().copied());
    let plot = Bars {
        caption: &caption,
        series,
        rows,
        scale: Scale::decades(values),
        mark: short,
        figure: time,
    };
    Ok(plot.svg())
}

/// Accesses through a slice that was looked up once, beside those by address.
fn window(record: &Record) -> Result<String, String> {
    let cases = cases(record)?;
    let of_windows: Vec<&Case> = cases
        .iter()
        .filter(|case| case.name.starts_with("window: "))
        .collect();
    let rows = rows(&of_windows, "window: ", |case| {
        vec![Some(case.ours), case.limit]
    });
    bars(
        record,
        "Through a slice that was looked up once",
        &[OURS, LIMIT],
        &rows,
    )
}

fn flat(record: &Record) -> Result<String, String> {
    const FLAT: Series = Series {
        name: "flat memory",
        ..OURS
    };
    const ORDINARY: Series = Series {
        name: "ordinary memory",
        color: "#92c5de",
    };
    let cases = cases(record)?;
    let all: Vec<&Case> = cases.iter().collect();
    let rows = rows(&all, "", |case| vec![Some(case.ours), case.limit]);
    bars(record, "Flat memory", &[FLAT, ORDINARY], &rows)
}

fn lines(record: &Record, title: &str, panels: &[Panel], over: &str) -> Result<String, String> {
    let caption = caption(record, title, "Time on a logarithmic scale, less is better")?;
    let points = panels.iter().flat_map(|panel| &panel.points);
    let plot = Lines {
        caption: &caption,
        series: &[OURS, THEIRS],
        panels,
        over,
        scale: Scale::decades(points.flat_map(|(_, values)| values.iter().copied())),
        mark: short,
        figure: time,
    };
    Ok(plot.svg())
}

fn lookups(record: &Record) -> Result<String, String> {
    let mut points = Vec::new();
    for group in record.groups(LOOKUPS.by)? {
        let values = vec![group.number("ours_ns")?, group.number("vm_memory_ns")?];
        points.push((group.text("regions")?.to_owned(), values));
    }
    let panel = Panel {
        name: String::new(),
        points,
    };
    lines(
        record,
        "Finding a region, at random",
        &[panel],
        "number of regions",
    )
}

fn harvests(record: &Record) -> Result<String, String> {
    let mut panels: Vec<Panel> = Vec::new();
    for group in record.groups(HARVESTS.by)? {
        let name = format!("{} dirty", group.text("dirty")?);
        let values = vec![group.number("ours_ns")?, group.number("vm_memory_ns")?];
        let point = (group.text("log_gib")?.to_owned(), values);
        match panels.iter_mut().find(|panel| panel.name == name) {
            Some(panel) => panel.points.push(point),
            None => panels.push(Panel {
                name,
                points: vec![point],
            }),
        }
    }
    lines(
        record,
        "A harvest of a dirty log",
        &panels,
        "GiB of guest memory in the log",
    )
}

fn prefault(record: &Record) -> Result<String, String> {
    const SERIES: [Series; 2] = [
        Series {
            name: "1 thread",
            color: "#92c5de",
        },
        Series {
            name: "2 threads",
            ..OURS
        },
    ];
    let mut rows = Vec::new();
    for group in record.groups(&["source"])? {
        let mib = group.number("mib")?;
        let speed = |column| -> Result<_, String> { Ok(Some(speed(mib, group.number(column)?))) };
        rows.push(Row {
            name: group.text("source")?.to_owned(),
            values: vec![speed("one_thread_ms")?, speed("two_threads_ms")?],
        });
    }
    let caption = caption(
        record,
        "Populating memory",
        "GiB populated in a second, more is better",
    )?;
    let values = rows
        .iter()
        .flat_map(|row| row.values.iter().flatten().copied());
    let plot = Bars {
        caption: &caption,
        series: &SERIES,
        rows: &rows,
        scale: Scale::even(values),
        mark: |value| format!("{value}"),
        figure: |value| format!("{value:.1} GiB/s"),
    };
    Ok(plot.svg())
}
