// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The elements.

use std::fmt::Write;

use super::{INK, PAPER};

/// A picture in the making.
#[derive(Clone, Debug)]
pub struct Svg {
    text: String,
}

/// Which point of a text is at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The left end.
    Start,
    /// The middle.
    Middle,
    /// The right end.
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Pixels of its height.
    pub size: f64,
    /// Its colour.
    pub color: &'static str,
    /// Which point of it is at its place.
    pub anchor: Anchor,
    /// Whether it is bold.
    pub is_bold: bool,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            size: 13.0,
            color: INK,
            anchor: Anchor::Start,
            is_bold: false,
        }
    }
}

impl Svg {
    /// Begins a picture of so many pixels, with a title and a description for those who do not see it.
    pub fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        let mut svg = Self {
            text: String::new(),
        };
        svg.line_of(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             font-family=\"sans-serif\" font-size=\"13\" role=\"img\" aria-labelledby=\"title description\">"
        ));
        svg.line_of(format_args!(
            "<title id=\"title\">{}</title>",
            escaped(title)
        ));
        svg.line_of(format_args!(
            "<desc id=\"description\">{}</desc>",
            escaped(description)
        ));
        svg.rect(0.0, 0.0, width, height, PAPER);
        svg
    }

    /// Fills a rectangle.
    pub fn rect(&mut self, left: f64, top: f64, width: f64, height: f64, color: &str) {
        self.line_of(format_args!(
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{color}\"/>"
        ));
    }

    /// Draws lines from point to point.
    pub fn path(&mut self, points: &[(f64, f64)], color: &str, width: f64, dashes: &str) {
        let mut data = String::new();
        for (number, (x, y)) in points.iter().enumerate() {
            let command = if number == 0 { 'M' } else { 'L' };
            let _ = write!(data, "{command}{x:.1} {y:.1}");
        }
        let dashes = match dashes {
            "" => String::new(),
            dashes => format!(" stroke-dasharray=\"{dashes}\""),
        };
        self.line_of(format_args!(
            "<path d=\"{data}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width:.1}\"{dashes}/>"
        ));
    }

    /// Fills a circle.
    pub fn circle(&mut self, x: f64, y: f64, radius: f64, color: &str) {
        self.line_of(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{color}\"/>"
        ));
    }

    /// Writes a text.
    pub fn text(&mut self, x: f64, y: f64, look: Text, text: &str) {
        let anchor = match look.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if look.is_bold {
            " font-weight=\"bold\""
        } else {
            ""
        };
        self.line_of(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{:.0}\" fill=\"{}\"{anchor}{weight}>{}</text>",
            look.size,
            look.color,
            escaped(text)
        ));
    }

    /// Ends the picture.
    pub fn finish(mut self) -> String {
        self.line_of(format_args!("</svg>"));
        self.text
    }

    fn line_of(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.text, "{line}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_end_its_element() {
        let mut svg = Svg::new(10.0, 10.0, "a < b", "c & d");
        svg.text(1.0, 2.0, Text::default(), "</text><script>");
        let text = svg.finish();
        assert!(text.contains(">a &lt; b</title>") && text.contains(">c &amp; d</desc>"));
        assert!(text.contains("&lt;/text&gt;&lt;script&gt;"), "{text}");
        assert!(text.ends_with("</svg>\n"));
    }
}
