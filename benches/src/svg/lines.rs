// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Lines over something that grows, in panels side by side.

use super::{Anchor, Caption, FAINT, RULE, Scale, Series, Svg, Text, foot, head};

/// One panel.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it is about; empty for the only one.
    pub name: String,
    /// What is written at each place of the horizontal axis, which are evenly apart, and the values of the sides there.
    pub points: Vec<(String, Vec<f64>)>,
}

/// A plot of lines.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    /// What stands around it.
    pub caption: &'a Caption,
    /// The sides.
    pub series: &'a [Series],
    /// The panels, two beside each other.
    pub panels: &'a [Panel],
    /// What the horizontal axis is.
    pub over: &'a str,
    /// The vertical axis, for all panels.
    pub scale: Scale,
    /// Writes a mark of the vertical axis.
    pub mark: fn(f64) -> String,
    /// Writes a value.
    pub figure: fn(f64) -> String,
}

/// Pixels of a panel's axes, and of what is left of them.
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 64.0;

/// Pixels of the whole.
const WIDTH: f64 = 820.0;

/// Below and above a panel's axes.
const BELOW: f64 = 46.0;
const ABOVE: f64 = 24.0;

impl Lines<'_> {
    /// Makes the picture.
    pub fn svg(&self) -> String {
        let columns = self.panels.len().clamp(1, 2);
        let rows = self.panels.len().div_ceil(columns);
        let height = 82.0 + rows as f64 * (ABOVE + HEIGHT + BELOW) + 30.0;
        let mut svg = Svg::new(WIDTH, height, &self.caption.title, &self.description());
        let top = head(&mut svg, self.caption, self.series, true);
        let width = (WIDTH - 16.0) / columns as f64;
        for (number, panel) in self.panels.iter().enumerate() {
            let left = width * (number % columns) as f64 + LEFT;
            let top = top + (number / columns) as f64 * (ABOVE + HEIGHT + BELOW) + ABOVE;
            self.panel(&mut svg, panel, (left, top), width - LEFT - 24.0);
        }
        foot(&mut svg, self.caption, height);
        svg.finish()
    }

    fn description(&self) -> String {
        let mut text = format!("{}, over {}.", self.caption.unit, self.over);
        for panel in self.panels {
            for (place, values) in &panel.points {
                let name = [panel.name.as_str(), place.as_str()].join(" ");
                text += &format!(" {}:", name.trim());
                let sides = self.series.iter().zip(values);
                let sides: Vec<String> = sides
                    .map(|(series, value)| format!(" {} {}", series.name, (self.figure)(*value)))
                    .collect();
                text += &sides.join(",");
                text.push('.');
            }
        }
        format!("{text} {}.", self.caption.origin)
    }

    fn panel(&self, svg: &mut Svg, panel: &Panel, (left, top): (f64, f64), width: f64) {
        let look = Text {
            size: 11.0,
            color: FAINT,
            ..Text::default()
        };
        let end = Text {
            anchor: Anchor::End,
            ..look
        };
        let middle = Text {
            anchor: Anchor::Middle,
            ..look
        };
        let bold = Text {
            is_bold: true,
            ..Text::default()
        };
        svg.text(left, top - 9.0, bold, &panel.name);
        let y = |value| top + HEIGHT * (1.0 - self.scale.at(value));
        for value in self.scale.small_marks() {
            svg.path(
                &[(left, y(value)), (left + width, y(value))],
                "#f1f1f1",
                1.0,
                "",
            );
        }
        for value in self.scale.marks() {
            svg.path(&[(left, y(value)), (left + width, y(value))], RULE, 1.0, "");
            svg.text(left - 6.0, y(value) + 4.0, end, &(self.mark)(value));
        }
        let step = width / panel.points.len() as f64;
        let places = (0..panel.points.len()).map(|number| left + step * (number as f64 + 0.5));
        let places: Vec<f64> = places.collect();
        let bottom = top + HEIGHT;
        for (x, (name, _)) in places.iter().zip(&panel.points) {
            svg.path(&[(*x, bottom), (*x, bottom + 4.0)], FAINT, 1.0, "");
            svg.text(*x, bottom + 17.0, middle, name);
        }
        svg.text(left + width / 2.0, bottom + 34.0, middle, self.over);
        for (number, series) in self.series.iter().enumerate() {
            let values = panel
                .points
                .iter()
                .filter_map(|(_, values)| values.get(number));
            let points: Vec<(f64, f64)> = places
                .iter()
                .zip(values)
                .map(|(x, value)| (*x, y(*value)))
                .collect();
            svg.path(&points, series.color, 2.0, dashes(number));
            for point in points {
                marker(svg, point, *series, number);
            }
        }
    }
}

/// Draws what the legend shows of a side.
pub(super) fn sample(svg: &mut Svg, left: f64, middle: f64, series: Series, number: usize) {
    let points = [(left, middle), (left + 24.0, middle)];
    svg.path(&points, series.color, 2.0, dashes(number));
    marker(svg, (left + 12.0, middle), series, number);
}

/// Sides differ in their lines and markers too, for those who do not tell the colours apart.
fn dashes(number: usize) -> &'static str {
    if number == 0 { "" } else { "6 4" }
}

fn marker(svg: &mut Svg, (x, y): (f64, f64), series: Series, number: usize) {
    match number {
        0 => svg.circle(x, y, 4.0, series.color),
        _ => svg.rect(x - 3.5, y - 3.5, 7.0, 7.0, series.color),
    }
}
