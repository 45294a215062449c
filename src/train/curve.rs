//! The course of the loss, kept with the model so that a person can see how a training went.
//!
//! Hears the same reports as the caller. Long parts are thinned evenly, so that a model's files stay small.

use super::Progress;
use crate::model::Curve;

/// Most points of a part that are kept: more than a picture can show.
const POINTS_MAX: usize = 200;

/// What was heard of one training.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    curves: Vec<Curve>,
    /// Reports between two points of the running part.
    stride: usize,
    n_heard: usize,
}

impl Recorder {
    /// Takes in one report.
    pub(super) fn hear(&mut self, progress: &Progress) {
        let stage = progress.stage.name();
        if self.curves.last().is_none_or(|curve| curve.stage != stage) {
            self.curves.push(Curve { stage: stage.to_owned(), points: Vec::new() });
            (self.stride, self.n_heard) = (1, 0);
        }
        self.n_heard += 1;
        let loss = progress.loss as f32;
        // A file of numbers can't hold an infinite one.
        if !self.n_heard.is_multiple_of(self.stride) || !loss.is_finite() {
            return;
        }
        let points = &mut self.curves.last_mut().expect("one was pushed where there was none").points;
        points.push((progress.steps_done, loss));
        if points.len() == POINTS_MAX {
            // Every second one, the newest among them.
            let mut place = 0;
            points.retain(|_| {
                place += 1;
                place % 2 == 0
            });
            self.stride *= 2;
        }
    }

    /// The loss by steps, part by part.
    pub(super) fn curves(self) -> Vec<Curve> {
        self.curves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Stage;

    #[test]
    fn parts_are_told_apart_and_long_ones_are_thinned_evenly() {
        let mut recorder = Recorder::default();
        let mut hear = |stage, steps_done| {
            recorder.hear(&Progress { stage, steps_done, steps_total: 10_050, loss: steps_done as f64 });
        };
        (1..=5).for_each(|i| hear(Stage::Trial, 10 * i));
        (1..=1000).for_each(|i| hear(Stage::Fresh, 50 + 10 * i));
        let curves = recorder.curves();
        assert_eq!(curves.iter().map(|curve| curve.stage.as_str()).collect::<Vec<_>>(), ["trial", "fresh"]);
        assert_eq!(curves[0].points.last(), Some(&(50, 50.0)));
        let points = &curves[1].points;
        assert!((POINTS_MAX / 2..POINTS_MAX).contains(&points.len()), "{}", points.len());
        assert!(points.windows(2).all(|pair| pair[1].0 - pair[0].0 == points[1].0 - points[0].0), "evenly");
    }
}
