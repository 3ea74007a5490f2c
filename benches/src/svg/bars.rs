// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Horizontal bars: one row a case, one bar a side.

use super::{Anchor, Caption, FAINT, RULE, Scale, Series, Svg, Text, foot, head, width};

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is.
    pub name: String,
    /// The value of each side that has one, in the order of the series.
    pub values: Vec<Option<f64>>,
}

/// A plot of bars.
#[derive(Clone, Debug)]
pub struct Bars<'a> {
    /// What stands around it.
    pub caption: &'a Caption,
    /// The sides.
    pub series: &'a [Series],
    /// The rows, from the top down.
    pub rows: &'a [Row],
    /// The axis.
    pub scale: Scale,
    /// Writes a mark of the axis.
    pub mark: fn(f64) -> String,
    /// Writes a value.
    pub figure: fn(f64) -> String,
}

/// Pixels of a bar's height, and of a row's beyond its bars.
const BAR: f64 = 9.0;
const GAP: f64 = 9.0;

/// Pixels of the axis, and of what is right of it.
const AXIS: f64 = 480.0;
const RIGHT: f64 = 90.0;

impl Bars<'_> {
    /// Makes the picture.
    pub fn svg(&self) -> String {
        let names = self.rows.iter().map(|row| width(&row.name, 12.0));
        let left = names.fold(80.0, f64::max) + 28.0;
        let row_height = BAR * self.series.len() as f64 + GAP;
        let top = 104.0;
        let bottom = top + row_height * self.rows.len() as f64;
        let (all_width, height) = (left + AXIS + RIGHT, bottom + 38.0);
        let mut svg = Svg::new(all_width, height, &self.caption.title, &self.description());
        head(&mut svg, self.caption, self.series, false);
        self.axis(&mut svg, left, top, bottom);
        for (row, number) in self.rows.iter().zip(0_u32..) {
            self.row(&mut svg, row, left, top + row_height * f64::from(number));
        }
        foot(&mut svg, self.caption, height);
        svg.finish()
    }

    /// What those hear who do not see the picture: all of it.
    fn description(&self) -> String {
        let mut text = format!("{}.", self.caption.unit);
        for row in self.rows {
            text += &format!(" {}:", row.name);
            for (series, value) in self.series.iter().zip(&row.values) {
                if let Some(value) = value {
                    text += &format!(" {} {},", series.name, (self.figure)(*value));
                }
            }
            if text.ends_with(',') {
                text.pop();
            }
            text.push('.');
        }
        format!("{text} {}.", self.caption.origin)
    }

    fn axis(&self, svg: &mut Svg, left: f64, top: f64, bottom: f64) {
        let place = |value| left + self.scale.at(value) * AXIS;
        for value in self.scale.small_marks() {
            svg.path(
                &[(place(value), top), (place(value), bottom)],
                "#f1f1f1",
                1.0,
                "",
            );
        }
        let look = Text {
            size: 11.0,
            color: FAINT,
            anchor: Anchor::Middle,
            is_bold: false,
        };
        for value in self.scale.marks() {
            svg.path(
                &[(place(value), top - 3.0), (place(value), bottom)],
                RULE,
                1.0,
                "",
            );
            svg.text(place(value), top - 7.0, look, &(self.mark)(value));
        }
    }

    fn row(&self, svg: &mut Svg, row: &Row, left: f64, top: f64) {
        let middle = top + (GAP + BAR * self.series.len() as f64) / 2.0;
        let name = Text {
            size: 12.0,
            anchor: Anchor::End,
            ..Text::default()
        };
        svg.text(left - 8.0, middle + 4.0, name, &row.name);
        let mut top = top + GAP / 2.0;
        for (series, value) in self.series.iter().zip(&row.values) {
            if let Some(value) = *value {
                let len = self.scale.at(value) * AXIS;
                svg.rect(left, top + 0.5, len, BAR - 1.0, series.color);
                let look = Text {
                    size: 9.0,
                    color: FAINT,
                    ..Text::default()
                };
                svg.text(
                    left + len + 4.0,
                    top + BAR - 1.5,
                    look,
                    &(self.figure)(value),
                );
            }
            top += BAR;
        }
    }
}
