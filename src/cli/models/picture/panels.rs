//! The three panels of a picture.

use std::ops::Range;

use plotters::coord::combinators::WithKeyPoints;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::element::{DynElement, IntoDynElement};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Area, BLUE, Drawn, GREY, GRID, INK, Map, ORANGE, PALE, Picture, Scale, shade};
use crate::model::Curve;

/// Bars of a histogram.
const N_BARS: usize = 48;

/// A colour for each part of a training, in their order.
const STAGES: [RGBColor; 4] = [RGBColor(150, 160, 172), RGBColor(90, 160, 190), BLUE, ORANGE];

/// How the numbers on both axes are written.
type Formats<'a, X, Y> = (&'a dyn Fn(&X) -> String, &'a dyn Fn(&Y) -> String);

/// Draws axes, their names and a light grid.
fn axes<DB, X, Y>(
    chart: &mut ChartContext<'_, DB, Cartesian2d<X, Y>>,
    names: [&str; 2],
    formats: Formats<'_, X::ValueType, Y::ValueType>,
    scale: Scale,
) -> Drawn<DB>
where
    DB: DrawingBackend,
    X: Ranged + ValueFormatter<X::ValueType>,
    Y: Ranged + ValueFormatter<Y::ValueType>,
{
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GREY)
        .label_style(scale.text(14, GREY))
        .axis_desc_style(scale.text(15, INK))
        .set_all_tick_mark_size(scale.px(4))
        .x_desc(names[0])
        .y_desc(names[1])
        .x_label_formatter(formats.0)
        .y_label_formatter(formats.1)
        .draw()
}

/// A logarithmic axis with marks at 1, 2 and 5 of each power of ten, or at the powers alone where these are many.
fn log_axis(range: Range<f64>) -> WithKeyPoints<LogCoord<f64>> {
    const DECADES_MAX: f64 = 3.5;
    let (first, last) = (range.start.log10().floor() as i32, range.end.log10().ceil() as i32);
    let steps: &[f64] = if (range.end / range.start).log10() > DECADES_MAX { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let marks = (first..=last).flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
    let marks: Vec<f64> = marks.filter(|mark| range.contains(mark)).collect();
    range.log_scale().with_key_points(marks)
}

/// Draws the key of a panel's series.
fn key<'a, DB: DrawingBackend + 'a, X: Ranged, Y: Ranged>(
    chart: &mut ChartContext<'a, DB, Cartesian2d<X, Y>>,
    position: SeriesLabelPosition,
    scale: Scale,
) -> Drawn<DB> {
    chart
        .configure_series_labels()
        .position(position)
        .label_font(scale.text(14, INK))
        .background_style(WHITE.mix(0.85))
        .margin(scale.px(8))
        .legend_area_size(scale.px(26))
        .draw()
}

/// Loss by steps.
pub(super) fn curve<DB: DrawingBackend>(area: &Area<DB>, picture: &Picture, scale: Scale) -> Drawn<DB> {
    let points = || picture.curves.iter().flat_map(|curve| curve.points.iter().copied());
    let losses = || points().map(|(_, loss)| loss).filter(|loss| *loss > 0.0);
    let (low, high) = (losses().fold(f32::INFINITY, f32::min), losses().fold(0.0, f32::max));
    if low > high {
        let text = scale.text(16, GREY).pos(Pos::new(HPos::Center, VPos::Center));
        let (width, height) = area.dim_in_pixel();
        let middle = (width as i32 / 2, height as i32 / 2);
        return area.draw_text("no training curve is stored in this model", &text, middle);
    }
    let last = points().map(|(step, _)| step).max().unwrap_or(1);
    let mut chart = ChartBuilder::on(area)
        .caption("Training", scale.text(19, INK))
        .margin(scale.px(14))
        .x_label_area_size(scale.px(44))
        .y_label_area_size(scale.px(70))
        .build_cartesian_2d(0.0..last as f64 * 1.01, log_axis(f64::from(low) * 0.85..f64::from(high) * 1.15))?;
    let formats: Formats<'_, _, _> = (&|step| format!("{step:.0}"), &|loss: &f64| short(*loss));
    axes(&mut chart, ["step", "loss (share of variance), log scale"], formats, scale)?;
    for (i, curve) in picture.curves.iter().enumerate() {
        let colour = STAGES[i % STAGES.len()];
        let points =
            || curve.points.iter().filter(|(_, loss)| *loss > 0.0).map(|(step, loss)| (*step as f64, f64::from(*loss)));
        chart.draw_series(LineSeries::new(points(), colour.mix(0.35).stroke_width(scale.px(1))))?;
        chart
            .draw_series(LineSeries::new(smooth(curve), colour.stroke_width(scale.px(2))))?
            .label(&curve.stage)
            .legend(move |(x, y)| legend_line(x, y, colour, scale));
    }
    key(&mut chart, SeriesLabelPosition::UpperRight, scale)
}

fn legend_line<DB: DrawingBackend>(
    x: i32,
    y: i32,
    colour: RGBColor,
    scale: Scale,
) -> DynElement<'static, DB, (i32, i32)> {
    PathElement::new([(x, y), (x + scale.px(20) as i32, y)], colour.stroke_width(scale.px(2))).into_dyn()
}

/// The geometric mean of each loss and up to two on each side: batches are small and their losses jump.
fn smooth(curve: &Curve) -> Vec<(f64, f64)> {
    const SIDE_MAX: usize = 2;
    let positive: Vec<(u64, f32)> = curve.points.iter().copied().filter(|(_, loss)| *loss > 0.0).collect();
    let mean = |i: usize| {
        let side = SIDE_MAX.min(i).min(positive.len() - 1 - i);
        let near = &positive[i - side..=i + side];
        (near.iter().map(|(_, loss)| f64::from(*loss).ln()).sum::<f64>() / near.len() as f64).exp()
    };
    (0..positive.len()).map(|i| (positive[i].0 as f64, mean(i))).collect()
}

/// How the calibration's scores are spread, with the threshold.
pub(super) fn scores<DB: DrawingBackend>(area: &Area<DB>, picture: &Picture, scale: Scale) -> Drawn<DB> {
    let log = |raw: f64| raw.max(1e-9).log10();
    let calibration: Vec<f64> = picture.scores.iter().map(|raw| log(*raw)).collect();
    let rows: Vec<f64> = picture.row_scores.iter().map(|raw| log(*raw)).collect();
    let all = || calibration.iter().chain(&rows).copied().chain([log(picture.threshold)]);
    let (low, high) = (all().fold(f64::INFINITY, f64::min) - 0.1, all().fold(f64::NEG_INFINITY, f64::max) + 0.25);
    let width = (high - low) / N_BARS as f64;
    let (bars, beside) = (histogram(&calibration, low, width), histogram(&rows, low, width));
    let most = bars.iter().chain(&beside).copied().max().unwrap_or(0).max(1);
    // Room for the key above the highest bar.
    let top = f64::from(most).powf(1.4).max(10.0 * f64::from(most));
    let mut chart = ChartBuilder::on(area)
        .caption("Scores of held-out records", scale.text(19, INK))
        .margin(scale.px(14))
        .x_label_area_size(scale.px(44))
        .y_label_area_size(scale.px(70))
        .build_cartesian_2d(log_axis(10_f64.powf(low)..10_f64.powf(high)), log_axis(0.5..top))?;
    let formats: Formats<'_, _, _> = (&|x: &f64| short(*x), &|n: &f64| short(*n));
    axes(&mut chart, ["score (mean squared residual), log scale", "records, log scale"], formats, scale)?;
    let place = |i: f64| 10_f64.powf(low + i * width);
    let bar = |(i, n): (usize, &u32)| {
        Rectangle::new([(place(i as f64 + 0.06), 0.5), (place(i as f64 + 0.94), f64::from(*n))], PALE.filled())
    };
    chart
        .draw_series(bars.iter().enumerate().filter(|(_, n)| **n > 0).map(bar))?
        .label(format!("calibration ({} records)", calibration.len()))
        .legend(move |(x, y)| {
            let (width, half) = (scale.px(20) as i32, scale.px(5) as i32);
            Rectangle::new([(x, y - half), (x + width, y + half)], PALE.filled())
        });
    if !rows.is_empty() {
        let step =
            |(i, n): (usize, &u32)| [place(i as f64), place((i + 1) as f64)].map(|x| (x, f64::from(*n).max(0.5)));
        let outline: Vec<(f64, f64)> = beside.iter().enumerate().flat_map(step).collect();
        chart
            .draw_series(LineSeries::new(outline, BLUE.stroke_width(scale.px(2))))?
            .label(format!("rows of --data ({})", rows.len()))
            .legend(move |(x, y)| legend_line(x, y, BLUE, scale));
    }
    let at = picture.threshold.max(1e-9);
    chart
        .draw_series(LineSeries::new([(at, 0.5), (at, top)], ORANGE.stroke_width(scale.px(2))))?
        .label(format!(
            "threshold {} (target: {} % of records)",
            short(picture.threshold),
            short(100.0 * picture.target)
        ))
        .legend(move |(x, y)| legend_line(x, y, ORANGE, scale));
    let is_left = log(picture.threshold) < f64::midpoint(low, high);
    let away = if is_left { SeriesLabelPosition::UpperRight } else { SeriesLabelPosition::UpperLeft };
    key(&mut chart, away, scale)
}

/// How many values are in each bar of `width` from `low` on.
fn histogram(values: &[f64], low: f64, width: f64) -> Vec<u32> {
    let mut bars = vec![0_u32; N_BARS];
    values.iter().for_each(|x| bars[(((x - low) / width) as usize).min(N_BARS - 1)] += 1);
    bars
}

/// The map, with names where there is room for them.
pub(super) fn map<DB: DrawingBackend>(area: &Area<DB>, map: &Map, scale: Scale) -> Drawn<DB> {
    let range = |axis: usize| {
        let of = || map.dots.iter().map(move |dot| dot.at[axis]);
        let (low, high) = (of().fold(f32::INFINITY, f32::min), of().fold(f32::NEG_INFINITY, f32::max));
        let room = 0.08 * (high - low).max(1e-3);
        if low > high { -1.0..1.0 } else { low - room..high + room }
    };
    let mut chart = ChartBuilder::on(area)
        .caption(&map.title, scale.text(19, INK))
        .margin(scale.px(14))
        .x_label_area_size(scale.px(44))
        .y_label_area_size(scale.px(60))
        .build_cartesian_2d(range(0), range(1))?;
    let formats: Formats<'_, _, _> = (&|x: &f32| short(f64::from(*x)), &|y: &f32| short(f64::from(*y)));
    axes(&mut chart, [&map.axes[0], &map.axes[1]], formats, scale)?;
    // The most important last, on top of the others.
    for dot in map.dots.iter().rev() {
        let colour = if dot.stands_out { ORANGE } else { shade(dot.heat) };
        let (at, radius) = ((dot.at[0], dot.at[1]), (scale.px(1) as f32 * (2.0 + 8.0 * dot.size)) as i32);
        chart.draw_series([Circle::new(at, radius, colour.mix(0.75).filled())])?;
        if dot.ringed {
            chart.draw_series([Circle::new(at, radius + scale.px(3) as i32, INK.stroke_width(scale.px(1)))])?;
        }
    }
    let place = |dot: &super::Dot| chart.backend_coord(&(dot.at[0], dot.at[1]));
    let (plot_x, _) = chart.plotting_area().get_pixel_range();
    let named: Vec<((i32, i32), &str)> =
        map.dots.iter().filter_map(|dot| Some((place(dot), dot.text.as_deref()?))).collect();
    let text = scale.text(14, INK);
    let (area_x, area_y) = area.get_base_pixel();
    let around = |(x, y): (i32, i32)| {
        ((x - scale.px(5) as i32, y - scale.px(5) as i32), (x + scale.px(5) as i32, y + scale.px(5) as i32))
    };
    let dots: Vec<Box2> = map.dots.iter().map(|dot| around(place(dot))).collect();
    let mut taken: Vec<Box2> = Vec::new();
    for (at, name) in named {
        let (width, height) = area.estimate_text_size(name, &text)?;
        let find = |taken: &[Box2]| free_place(at, (width as i32, height as i32), plot_x.end, taken, scale);
        // Better over a dot than not at all, but never over another name.
        if let Some(place) = find(&[taken.as_slice(), &dots].concat()).or_else(|| find(&taken)) {
            taken.push(place);
            area.draw_text(name, &text, (place.0.0 - area_x, place.0.1 - area_y))?;
        }
    }
    let (_, height) = area.dim_in_pixel();
    let left = scale.px(78) as i32;
    area.draw_text(&map.key, &scale.text(14, GREY), (left, scale.px(42) as i32))?;
    if let Some(caveat) = map.caveat {
        area.draw_text(caveat, &scale.text(15, ORANGE), (left, height as i32 - scale.px(84) as i32))?;
    }
    Ok(())
}

/// A box in pixels: its upper left and its lower right.
type Box2 = ((i32, i32), (i32, i32));

/// Where a text of `size` beside `at` meets none of those that are there: on the right, the left, below or above.
fn free_place(at: (i32, i32), size: (i32, i32), right_end: i32, taken: &[Box2], scale: Scale) -> Option<Box2> {
    let gap = scale.px(9) as i32;
    let (middle, centre) = (at.1 - size.1 / 2, at.0 - size.0 / 2);
    let corners =
        [(at.0 + gap, middle), (at.0 - gap - size.0, middle), (centre, at.1 + gap), (centre, at.1 - gap - size.1)];
    let boxes = corners.map(|(x, y)| ((x, y), (x + size.0, y + size.1)));
    let meets = |a: &Box2, b: &Box2| a.0.0 < b.1.0 && b.0.0 < a.1.0 && a.0.1 < b.1.1 && b.0.1 < a.1.1;
    boxes.into_iter().find(|place| place.1.0 < right_end && !taken.iter().any(|other| meets(place, other)))
}

/// A number with few digits: 0.012, 3.4, 1200.
fn short(value: f64) -> String {
    let digits = (1 - value.abs().max(1e-12).log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.digits$}");
    // Rounding leaves a sign on nothing.
    let text = if text.trim_matches(['-', '0', '.']).is_empty() { "0".to_owned() } else { text };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let texts = [0.0123, 0.5, 1.0, 3.44, 100.0, 1234.5, 0.0, -1e-16, 1e-6].map(short);
        assert_eq!(texts, ["0.012", "0.5", "1", "3.4", "100", "1234", "0", "0", "0.000001"]);
    }

    #[test]
    fn names_give_way_to_each_other_or_are_left_out() {
        let scale = Scale(1);
        let first = free_place((100, 100), (50, 14), 500, &[], scale).unwrap();
        assert_eq!(first, ((109, 93), (159, 107)));
        let second = free_place((100, 100), (50, 14), 500, &[first], scale).unwrap();
        assert_eq!(second.1.0, 91, "to the left");
        assert_eq!(free_place((480, 100), (50, 14), 500, &[], scale).unwrap().1.0, 471, "not beyond the end");
        let everywhere = ((0, 0), (1000, 1000));
        assert_eq!(free_place((100, 100), (50, 14), 500, &[everywhere], scale), None);
    }

    #[test]
    fn a_histogram_counts_everything_once() {
        let bars = histogram(&[0.0, 0.5, 1.5, 47.9, 48.0], 0.0, 1.0);
        assert_eq!((bars[0], bars[1], bars[47], bars.iter().sum::<u32>()), (2, 1, 2, 5));
    }

    #[test]
    fn a_constant_loss_is_smoothed_to_itself() {
        let curve = Curve { stage: "round".into(), points: (1..9).map(|i| (i, 0.5)).collect() };
        assert!(smooth(&curve).iter().all(|(_, loss)| (loss - 0.5).abs() < 1e-6));
        let falling = Curve { stage: "round".into(), points: (0..9).map(|i| (i, 0.5_f32.powi(i as i32))).collect() };
        for ((_, smoothed), (_, loss)) in smooth(&falling).iter().zip(&falling.points) {
            assert!((smoothed / f64::from(*loss) - 1.0).abs() < 1e-5, "a steady fall is not delayed");
        }
    }
}
