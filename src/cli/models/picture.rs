//! Draws a model: training curve, score distribution, map.
//!
//! One drawing for both formats: `plotters` on an SVG, or on pixels that `png` packs. Text comes from a font of our own
//! (`font.ttf`, DejaVu Sans cut down; see `font.license.txt`), so that no machine needs one. It decides nothing.

mod panels;

use std::sync::Once;

use anyhow::{Context, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::model::Curve;

/// Size of the picture, pixels at scale 1.
const SIZE: (u32, u32) = (1500, 900);
/// Pixels of a PNG for one of an SVG: text stays legible on fine screens and in print.
const PNG_SCALE: u32 = 2;
/// The name under which our font goes; an SVG's viewer takes its own sans-serif.
const FONT: &str = "sans-serif";

const INK: RGBColor = RGBColor(40, 46, 54);
const GREY: RGBColor = RGBColor(110, 118, 128);
const GRID: RGBColor = RGBColor(228, 231, 235);
const BLUE: RGBColor = RGBColor(31, 90, 150);
const PALE: RGBColor = RGBColor(176, 202, 226);
const ORANGE: RGBColor = RGBColor(214, 96, 22);

/// What is to be seen of a model.
#[derive(Clone, Debug)]
pub struct Picture {
    /// First line.
    pub title: String,
    /// Second line.
    pub subtitle: String,
    /// Loss by steps; may be empty.
    pub curves: Vec<Curve>,
    /// Raw scores of the calibration.
    pub scores: Vec<f64>,
    /// Raw scores of rows that are shown beside; may be empty.
    pub row_scores: Vec<f64>,
    /// Raw score from which on there is an alert.
    pub threshold: f64,
    /// Target alert rate.
    pub target: f64,
    /// The map.
    pub map: Map,
}

/// Dots in a plane.
#[derive(Clone, Debug)]
pub struct Map {
    /// What the dots are.
    pub title: String,
    /// How to read a dot.
    pub key: String,
    /// What the axes are.
    pub axes: [String; 2],
    /// What must not be read from it.
    pub caveat: Option<&'static str>,
    /// The dots, the most important first.
    pub dots: Vec<Dot>,
}

/// One dot of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Dot {
    /// Its place.
    pub at: [f32; 2],
    /// Its size, from 0 to 1.
    pub size: f32,
    /// Its shade, from 0 to 1.
    pub heat: f32,
    /// Whether it has the other colour.
    pub stands_out: bool,
    /// Whether it has a ring.
    pub ringed: bool,
    /// What is written beside it, where there is room.
    pub text: Option<String>,
}

/// Sizes at a scale: everything that has a size in pixels goes through it.
#[derive(Clone, Copy, Debug)]
struct Scale(u32);

impl Scale {
    fn px(self, pixels: u32) -> u32 {
        self.0 * pixels
    }

    fn text(self, size: u32, colour: RGBColor) -> TextStyle<'static> {
        (FONT, self.px(size)).into_font().color(&colour)
    }
}

type Area<DB> = DrawingArea<DB, Shift>;
type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// The picture as SVG.
///
/// # Errors
/// When the drawing fails.
pub fn svg(picture: &Picture) -> anyhow::Result<Vec<u8>> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        page(&area, picture, Scale(1)).map_err(|error| anyhow!("the SVG can't be drawn: {error}"))?;
    }
    Ok(text.into_bytes())
}

/// The picture as PNG, twice as fine.
///
/// # Errors
/// When the drawing or the packing fails.
pub fn png(picture: &Picture) -> anyhow::Result<Vec<u8>> {
    let (width, height) = (SIZE.0 * PNG_SCALE, SIZE.1 * PNG_SCALE);
    let mut pixels = vec![0; 3 * (width * height) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        page(&area, picture, Scale(PNG_SCALE)).map_err(|error| anyhow!("the PNG can't be drawn: {error}"))?;
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&pixels))
        .context("the PNG can't be packed")?;
    Ok(bytes)
}

/// The whole page: two lines above, curve and scores on the left, the map on the right.
fn page<DB: DrawingBackend>(area: &Area<DB>, picture: &Picture, scale: Scale) -> Drawn<DB> {
    static FONT_IS_THERE: Once = Once::new();
    FONT_IS_THERE.call_once(|| {
        let bytes = include_bytes!("font.ttf");
        plotters::style::register_font(FONT, FontStyle::Normal, bytes).ok().expect("our own font is a font");
    });
    area.fill(&WHITE)?;
    let at = |x: u32, y: u32| (scale.px(x) as i32, scale.px(y) as i32);
    area.draw_text(&picture.title, &scale.text(26, INK), at(24, 16))?;
    area.draw_text(&picture.subtitle, &scale.text(16, GREY), at(24, 48))?;
    let (_, body) = area.split_vertically(scale.px(74));
    let (left, right) = body.split_horizontally(scale.px(700));
    let (curve, scores) = left.split_vertically(scale.px(400));
    panels::curve(&curve, picture, scale)?;
    panels::scores(&scores, picture, scale)?;
    panels::map(&right, &picture.map, scale)?;
    area.present()
}

/// A colour between pale and blue.
fn shade(heat: f32) -> RGBColor {
    let mix = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * heat.clamp(0.0, 1.0)) as u8;
    RGBColor(mix(PALE.0, BLUE.0), mix(PALE.1, BLUE.1), mix(PALE.2, BLUE.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let dot = |i: u16| Dot {
            at: [f32::from(i % 7), f32::from(i % 5)],
            size: 0.5,
            heat: 0.5,
            stands_out: i == 3,
            ringed: i == 4,
            text: (i < 3).then(|| format!("{i} +temp")),
        };
        Picture {
            title: "Model 1 of features".into(),
            subtitle: "a <small> one & more".into(),
            curves: vec![Curve { stage: "fresh".into(), points: (1..40).map(|i| (10 * i, 1.0 / i as f32)).collect() }],
            scores: (1..400).map(|i| f64::from(i) * 1e-3).collect(),
            row_scores: vec![0.5, 0.001, 0.0],
            threshold: 0.4,
            target: 1e-3,
            map: Map {
                title: "Latents".into(),
                key: "darker: more important".into(),
                axes: ["first".into(), "second".into()],
                caveat: Some("distances between clusters mean nothing"),
                dots: (0..30).map(dot).collect(),
            },
        }
    }

    #[test]
    fn an_svg_says_what_it_shows() {
        let text = String::from_utf8(svg(&picture()).unwrap()).unwrap();
        for words in
            ["Model 1 of features", "&lt;small&gt; one &amp; more", "fresh", "distances between clusters mean nothing"]
        {
            assert!(text.contains(words), "{words} is missing");
        }
        assert_eq!(text.into_bytes(), svg(&picture()).unwrap(), "it is the same every time");
    }

    #[test]
    fn a_png_has_its_size_and_ink_in_every_panel() {
        let bytes = png(&picture()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (SIZE.0 * PNG_SCALE, SIZE.1 * PNG_SCALE));
        let (width, height) = (info.width as usize, info.height as usize);
        for (x, y) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let rows = y * height / 2..(y + 1) * height / 2;
            let columns = x * width / 2..(x + 1) * width / 2;
            let inked = |(row, column): (usize, usize)| pixels[3 * (row * width + column)] < 128;
            let n =
                rows.flat_map(|row| columns.clone().map(move |column| (row, column))).filter(|at| inked(*at)).count();
            assert!(n > 1000, "{n} dark pixels in quarter ({x}, {y})");
        }
    }

    #[test]
    fn nothing_to_show_is_drawn_too() {
        let map = Map { dots: vec![], caveat: None, ..picture().map };
        let empty = Picture { curves: vec![], scores: vec![], row_scores: vec![], map, ..picture() };
        let text = String::from_utf8(svg(&empty).unwrap()).unwrap();
        assert!(text.contains("no training curve is stored"));
    }
}
