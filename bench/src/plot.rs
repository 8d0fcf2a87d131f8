//! Draws how a figure grows, as SVG. The page behind it may be light or dark: the background is transparent, and all
//! colours are between the two.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

const SIZE: (u32, u32) = (840, 300);
const GREY: RGBColor = RGBColor(128, 128, 128);
pub(crate) const BLUE: RGBColor = RGBColor(47, 129, 247);
pub(crate) const ORANGE: RGBColor = RGBColor(219, 109, 40);

/// One of the plots that stand side by side.
pub(crate) struct Panel {
    pub title: String,
    pub lines: Vec<Line>,
}

pub(crate) struct Line {
    pub name: String,
    pub color: RGBColor,
    pub points: Vec<(f64, f64)>,
}

/// Both axes are logarithmic.
pub(crate) fn draw(path: &Path, x_title: &str, panels: &[Panel]) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    for (panel, area) in panels.iter().zip(area.split_evenly((1, panels.len()))) {
        draw_panel(panel, x_title, &area).map_err(|error| anyhow!("draw {}: {error}", path.display()))?;
    }
    area.present().with_context(|| format!("write {}", path.display()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw_panel(panel: &Panel, x_title: &str, area: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let (x, y) = (span(points().map(|point| point.0)), span(points().map(|point| point.1)));
    let text = |size: i32| ("sans-serif", size).into_font().color(&GREY);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, text(15))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(x.log_scale(), y.log_scale())?;
    chart
        .configure_mesh()
        .axis_style(GREY)
        .bold_line_style(GREY.mix(0.3))
        .light_line_style(TRANSPARENT)
        .label_style(text(12))
        .axis_desc_style(text(13))
        .x_desc(x_title)
        .x_label_formatter(&|&value| short(value))
        .y_label_formatter(&|&value| short(value))
        .draw()?;
    for Line { name, color, points } in &panel.lines {
        let series = chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?;
        let color = *color;
        series.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, color.filled())))?;
    }
    chart.configure_series_labels().position(SeriesLabelPosition::LowerLeft).label_font(text(12)).draw()?;
    Ok(())
}

/// From below the least to above the greatest.
fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) = values.fold((f64::MAX, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    if least > most { 1.0..10.0 } else { least / 1.5..most * 1.5 }
}

/// 10000 as 10k.
fn short(value: f64) -> String {
    struct Digits(f64);
    impl fmt::Display for Digits {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            // A label has one or two digits that count.
            write!(f, "{}", (self.0 * 100.0).round() / 100.0)
        }
    }
    match value {
        _ if value >= 1e6 => format!("{}M", Digits(value / 1e6)),
        _ if value >= 1e3 => format!("{}k", Digits(value / 1e3)),
        _ => Digits(value).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn labels_are_short() {
        let labels = [0.5, 1.0, 10.0, 1_000.0, 25_000.0, 2_500_000.0].map(short);
        assert_eq!(labels, ["0.5", "1", "10", "1k", "25k", "2.5M"]);
    }

    #[test]
    fn a_plot_has_its_lines_and_no_background() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("plot.svg");
        let line = |name: &str, color| Line { name: name.into(), color, points: vec![(10.0, 4e5), (1e5, 3e3)] };
        let lines = vec![line("Millrace", BLUE), line("Kafka Streams", ORANGE)];
        let panels = [Panel { title: "records/s".into(), lines }, Panel { title: "nothing".into(), lines: Vec::new() }];
        draw(&path, "bytes of a value", &panels).expect("it is drawn");
        let svg = fs::read_to_string(&path).expect("it is there");
        for text in ["records/s", "Kafka Streams", "bytes of a value", "#2F81F7"] {
            assert!(svg.contains(text), "no {text} in {svg}");
        }
        assert!(
            !svg.contains("#FFFFFF") && !svg.contains("#000000"),
            "white and black are on one of the pages unseen: {svg}"
        );
    }
}
