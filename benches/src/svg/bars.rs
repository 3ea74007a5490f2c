// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Horizontal bars: one row a case, one bar a side.

use super::{
    Anchor, Caption, FAINT, RULE, Scale, Series, Svg, Text, caption_width, foot, head, width,
};

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
        let top = 104.0;
        let bottom = top + self.rows.iter().map(height_of).sum::<f64>();
        let all_width = (left + AXIS + RIGHT).max(caption_width(self.caption));
        let height = bottom + 38.0;
        let mut svg = Svg::new(all_width, height, &self.caption.title, &self.description());
        head(&mut svg, self.caption, self.series, false);
        self.axis(&mut svg, left, top, bottom);
        let mut row_top = top;
        for row in self.rows {
            self.row(&mut svg, row, left, row_top);
            row_top += height_of(row);
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
        let middle = top + height_of(row) / 2.0;
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
                top += BAR;
            }
        }
    }
}

fn height_of(row: &Row) -> f64 {
    BAR * row.values.iter().flatten().count() as f64 + GAP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_end_at_the_axis_and_what_is_missing_has_none() {
        let caption = Caption {
            title: "Speed".to_owned(),
            unit: "time".to_owned(),
            origin: "a machine".to_owned(),
        };
        let series = ["ours", "theirs"].map(|name| Series {
            name,
            color: "#123456",
        });
        let row = |name: &str, values: [Option<f64>; 2]| Row {
            name: name.to_owned(),
            values: values.to_vec(),
        };
        let rows = [
            row("fast", [Some(10.0), None]),
            row("slow & late", [Some(1e6), Some(f64::NAN)]),
        ];
        let svg = Bars {
            caption: &caption,
            series: &series,
            rows: &rows,
            scale: Scale::Decades { first: 0, last: 2 },
            mark: |value| format!("{value}"),
            figure: |value| format!("{value} ns"),
        }
        .svg();
        let widths: Vec<&str> = svg
            .lines()
            .filter(|line| line.ends_with("height=\"8.0\" fill=\"#123456\"/>"))
            .filter_map(|line| line.split("width=\"").nth(1)?.split('"').next())
            .collect();
        // Half of the axis, all of it, and nothing.
        assert_eq!(widths, ["240.0", "480.0", "0.0"], "{svg}");
        assert!(svg.contains(
            "fast: ours 10 ns. slow &amp; late: ours 1000000 ns, theirs NaN ns. a machine.</desc>"
        ));
    }
}
