//! Curves as SVG, drawn in the colours of a light page. In a dark one, the style sheet of
//! the page finds them by those colours and replaces them: see [`INK`] and [`HUES`].
//!
//! Without fonts of the system the drawing does not know how wide its words are, so the
//! only words in it are numbers at the axes. Titles and legends are the page's.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

/// Numbers at the axes.
pub(super) const INK: RGBColor = RGBColor(0x5b, 0x64, 0x70);
/// Lines behind the curves.
pub(super) const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
/// One for each curve.
pub(super) const HUES: [RGBColor; 6] = [
    RGBColor(0x0b, 0x6b, 0xcb),
    RGBColor(0xc2, 0x5a, 0x0c),
    RGBColor(0x1d, 0x84, 0x4b),
    RGBColor(0x8a, 0x3f, 0xb5),
    RGBColor(0xb8, 0x2c, 0x5b),
    RGBColor(0x4d, 0x6a, 0x75),
];

/// What an axis counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Axis {
    /// Evenly, from zero.
    Even,
    /// Each power of ten is as wide as the last.
    Powers,
    /// 0, 90, 99, 99.9 ... evenly.
    Percent,
}

/// A line through points, in one of [`HUES`].
pub(super) struct Curve {
    pub(super) hue: usize,
    pub(super) points: Vec<(f64, f64)>,
    /// Whether what is below is filled.
    pub(super) filled: bool,
}

/// A drawing: two axes and what is between them.
pub(super) struct Chart<'a> {
    /// What it shows, for who cannot see it.
    pub(super) label: &'a str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Numbers at the axes.
    pub(super) x_text: fn(f64) -> String,
    pub(super) y_text: fn(f64) -> String,
    pub(super) curves: Vec<Curve>,
    /// Where on x something is to be noted: a part that is grey.
    pub(super) shaded: Option<Range<f64>>,
}

impl Axis {
    /// Where a value is, in even steps.
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Even => value,
            Self::Powers => value.max(1e-3).log10(),
            Self::Percent => -(1.0 - (value / 100.0).min(0.999_999_999)).log10(),
        }
    }

    fn value(self, place: f64) -> f64 {
        match self {
            Self::Even => place,
            Self::Powers => 10_f64.powf(place),
            // 99.99 and not 99.98999999999999.
            Self::Percent => ((1.0 - 10_f64.powf(-place)) * 1e9).round() / 1e7,
        }
    }

    /// From where to where, so that all values have room.
    fn range(self, values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
        let most = values.clone().fold(f64::MIN_POSITIVE, f64::max);
        match self {
            Self::Even => 0.0..most * 1.05,
            Self::Powers => {
                let least = values.filter(|value| *value > 0.0).fold(most, f64::min);
                let (from, to) = (least.log10() - 0.1, most.log10() + 0.1);
                // At least half a power, or there may be no number at the axis.
                from..to.max(from + 0.5)
            }
            Self::Percent => 0.0..self.place(most).max(2.0),
        }
    }

    /// Values that get a number.
    fn marks(self, range: &Range<f64>) -> Vec<f64> {
        match self {
            Self::Even => {
                let step = even_step(range.end);
                (0..).map(|n| f64::from(n) * step).take_while(|value| *value <= range.end).collect()
            }
            Self::Powers => {
                let steps: &[f64] = match range.end - range.start {
                    wide if wide > 2.5 => &[1.0],
                    wide if wide > 1.2 => &[1.0, 2.0, 5.0],
                    _ => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
                };
                let powers = range.start.floor() as i32..=range.end.ceil() as i32;
                let all =
                    powers.flat_map(|power| steps.iter().map(move |s| s * 10_f64.powi(power)));
                all.filter(|value| range.contains(&value.log10())).collect()
            }
            Self::Percent => {
                let all = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999];
                let end = range.end + 1e-6;
                all.into_iter().filter(|percent| self.place(*percent) <= end).collect()
            }
        }
    }
}

/// An axis from one value to another.
struct Scale {
    axis: Axis,
    places: Range<f64>,
}

impl Scale {
    fn new(axis: Axis, values: impl Iterator<Item = f64> + Clone) -> Self {
        Self { axis, places: axis.range(values) }
    }
}

impl Ranged for Scale {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let Range { start, end } = self.places;
        let part = (self.axis.place(*value).clamp(start, end) - start) / (end - start);
        limit.0 + (part * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.axis.marks(&self.places)
    }

    fn range(&self) -> Range<f64> {
        self.axis.value(self.places.start)..self.axis.value(self.places.end)
    }
}

/// 1, 2 or 5 times a power of ten: four to nine of them reach `end`.
fn even_step(end: f64) -> f64 {
    let power = 10_f64.powf((end / 4.0).log10().floor());
    let step = [5.0, 2.0, 1.0].into_iter().find(|step| end / (step * power) >= 4.0);
    step.unwrap_or(1.0) * power
}

impl Chart<'_> {
    /// Drawn for a screen of any width: as SVG for a wide one and for a narrow one, of
    /// which the page shows the one that fits.
    pub(super) fn svgs(&self, wide: (u32, u32), narrow: (u32, u32)) -> String {
        [("wide", wide), ("narrow", narrow)]
            .map(|(class, size)| {
                let svg = self.svg(size);
                let label = self.label;
                let named = format!("<svg class=\"{class}\" role=\"img\" aria-label=\"{label}\" ");
                svg.replacen("<svg ", &named, 1)
            })
            .concat()
    }

    fn svg(&self, size: (u32, u32)) -> String {
        let mut svg = String::new();
        // It can only fail to write, and a string takes everything.
        let drawn = self.draw(SVGBackend::with_string(&mut svg, size).into_drawing_area());
        debug_assert!(drawn.is_ok(), "{drawn:?}");
        svg
    }

    fn draw(
        &self,
        area: DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let points = self.curves.iter().flat_map(|curve| &curve.points);
        let x = Scale::new(self.x, points.clone().map(|point| point.0));
        let y = Scale::new(self.y, points.map(|point| point.1));
        let (floor, ceiling) = (y.range().start, y.range().end);
        let mut chart = ChartBuilder::on(&area)
            .margin_top(8)
            .margin_right(18)
            .x_label_area_size(26)
            .y_label_area_size(66)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .axis_style(GRID)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 13).into_font().color(&INK))
            .x_label_formatter(&|value| (self.x_text)(*value))
            .y_label_formatter(&|value| (self.y_text)(*value))
            .draw()?;
        if let Some(part) = &self.shaded {
            let corners = [(part.start, floor), (part.end, ceiling)];
            chart.draw_series([Rectangle::new(corners, GRID.mix(0.6).filled())])?;
        }
        for curve in &self.curves {
            let colour = HUES[curve.hue % HUES.len()];
            let points = &curve.points;
            if curve.filled {
                let area = AreaSeries::new(points.iter().copied(), floor, colour.mix(0.12));
                chart.draw_series(area)?;
            }
            if let [point] = curve.points[..] {
                // One point is no line.
                chart.draw_series([Circle::new(point, 3, colour.filled())])?;
            }
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        }
        area.present()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_axis_has_numbers_and_room_whatever_the_values() {
        for axis in [Axis::Even, Axis::Powers, Axis::Percent] {
            for most in [1e-3, 0.7, 1.0, 9.99, 212.0, 5_000.0, 3.3e7] {
                if axis == Axis::Percent && most > 100.0 {
                    continue;
                }
                let range = axis.range([most / 2.0, most].into_iter());
                let marks = axis.marks(&range);
                assert!((1..=12).contains(&marks.len()), "{axis:?} {most}: {marks:?}");
                let place = axis.place(most);
                assert!(range.start <= place && place <= range.end, "{axis:?} {most}: {range:?}");
            }
        }
    }

    #[test]
    fn a_drawing_has_no_nan_even_of_nothing() {
        for points in [vec![], vec![(1.0, 0.0)], vec![(0.0, 5.0), (1.0, 5.0)]] {
            for y in [Axis::Even, Axis::Powers] {
                let curves = vec![Curve { hue: 0, points: points.clone(), filled: true }];
                let text = |value: f64| format!("{value}");
                let (x_text, y_text) = (text as fn(f64) -> String, text as fn(f64) -> String);
                let chart =
                    Chart { label: "", x: Axis::Even, y, x_text, y_text, curves, shaded: None };
                let svg = chart.svgs((400, 200), (300, 200));
                assert!(svg.contains("</svg>"), "{points:?}");
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{points:?}: {svg}");
            }
        }
    }
}
