// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Plots as SVG, in as little of it as that takes: rectangles, lines, circles and text on a background of their own.

mod bars;
mod lines;
mod scale;
mod writer;

pub use bars::{Bars, Row};
pub use lines::{Lines, Panel};
pub use scale::Scale;
pub use writer::{Anchor, Svg, Text};

/// One of the sides that a plot shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// Its name in the legend.
    pub name: &'static str,
    /// Its colour.
    pub color: &'static str,
}

/// What stands around a plot.
#[derive(Clone, Debug)]
pub struct Caption {
    /// What is shown.
    pub title: String,
    /// In which unit, and of how many runs.
    pub unit: String,
    /// Where and when it was measured.
    pub origin: String,
}

const INK: &str = "#222";
const FAINT: &str = "#666";
const RULE: &str = "#ddd";
const PAPER: &str = "#fff";

/// Pixels of a letter's width, on the average, for each of its size.
const LETTER: f64 = 0.6;

/// Pixels that a text takes.
fn width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * LETTER
}

/// Writes the caption and the legend of a plot and returns where the plot may begin.
fn head(svg: &mut Svg, caption: &Caption, series: &[Series], dashes: bool) -> f64 {
    let bold = Text {
        size: 16.0,
        is_bold: true,
        ..Text::default()
    };
    svg.text(16.0, 26.0, bold, &caption.title);
    let small = Text {
        size: 12.0,
        color: FAINT,
        ..Text::default()
    };
    svg.text(16.0, 44.0, small, &caption.unit);
    let mut left = 16.0;
    for (number, series) in series.iter().enumerate() {
        match dashes {
            true => lines::sample(svg, left, 61.0, *series, number),
            false => svg.rect(left, 55.0, 24.0, 11.0, series.color),
        }
        svg.text(left + 30.0, 65.0, Text::default(), series.name);
        left += 30.0 + width(series.name, 13.0) + 24.0;
    }
    82.0
}

/// Pixels that the caption takes.
fn caption_width(caption: &Caption) -> f64 {
    32.0 + width(&caption.origin, 11.0).max(width(&caption.unit, 12.0))
}

/// Writes where and when a plot was measured below it.
fn foot(svg: &mut Svg, caption: &Caption, height: f64) {
    let small = Text {
        size: 11.0,
        color: FAINT,
        ..Text::default()
    };
    svg.text(16.0, height - 12.0, small, &caption.origin);
}
