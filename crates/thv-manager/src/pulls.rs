//! How far the pull of an image has come.

use std::collections::BTreeMap;
use std::fmt;

use thv_runtime::{PullProgress, PullStep};

/// More layers than an image may have are not counted.
const MOST_LAYERS: usize = 256;

/// Who is told of pulls while they go on. It is called between two steps of one, and must not block.
pub trait PullWatcher: fmt::Debug + Send + Sync {
    /// The pull of `image` has come this far.
    fn pulling(&self, image: &str, state: &PullState);
}

/// How far a pull has come. What an engine does not tell is zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PullState {
    /// The layers that are known of.
    pub layers: usize,
    /// Those of them that are there.
    pub layers_done: usize,
    /// Bytes that came.
    pub bytes: u64,
    /// Bytes of all layers whose size is known.
    pub bytes_total: u64,
    /// The image is there.
    pub done: bool,
}

/// What was told of each layer.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    layers: BTreeMap<String, Layer>,
}

#[derive(Debug, Default)]
struct Layer {
    bytes: u64,
    total: u64,
    done: bool,
}

impl Tally {
    /// Takes a step in.
    pub(crate) fn take(&mut self, step: &PullProgress) -> PullState {
        if let Some(id) = &step.layer
            && (self.layers.len() < MOST_LAYERS || self.layers.contains_key(id))
        {
            let layer = self.layers.entry(id.clone()).or_default();
            match step.step {
                PullStep::Done => layer.done = true,
                PullStep::Downloading => {
                    layer.bytes = step.current.unwrap_or(layer.bytes);
                    layer.total = step.total.unwrap_or(layer.total);
                }
                PullStep::Downloaded => layer.bytes = layer.total,
                _ => {}
            }
        }
        self.state(false)
    }

    /// The image is there.
    pub(crate) fn done(&self) -> PullState {
        self.state(true)
    }

    fn state(&self, done: bool) -> PullState {
        let layers = self.layers.values();
        PullState {
            layers: self.layers.len(),
            layers_done: layers.clone().filter(|layer| layer.done).count(),
            bytes: layers.clone().map(|layer| layer.bytes).sum(),
            bytes_total: layers.map(|layer| layer.total).sum(),
            done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_the_sum_of_its_layers() {
        let mut tally = Tally::default();
        let mut take = |layer: Option<&str>, step, bytes: Option<(u64, u64)>| {
            let mut progress = PullProgress::default();
            progress.layer = layer.map(str::to_owned);
            progress.step = step;
            progress.current = bytes.map(|(current, _)| current);
            progress.total = bytes.map(|(_, total)| total);
            tally.take(&progress)
        };
        assert_eq!(take(None, PullStep::Other, None).layers, 0);
        take(Some("a"), PullStep::Done, None);
        take(Some("b"), PullStep::Other, None);
        let state = take(Some("b"), PullStep::Downloading, Some((10, 40)));
        assert_eq!((state.layers, state.layers_done), (2, 1));
        assert_eq!((state.bytes, state.bytes_total), (10, 40));
        take(Some("b"), PullStep::Downloaded, None);
        let state = take(Some("b"), PullStep::Other, Some((1, 40)));
        assert_eq!((state.bytes, state.bytes_total), (40, 40));
        assert_eq!(take(Some("b"), PullStep::Done, None).layers_done, 2);
        assert!(tally.done().done);
    }
}
