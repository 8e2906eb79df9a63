//! One-shot recognition: to which of N classes an image belongs, told from K images of each.
//!
//! An episode takes N classes that nobody was trained on, K images of each as examples and some
//! others as questions. Features are frozen; nothing is fitted.

use super::estimate::Estimate;
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream, below, stream};
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

/// More episodes, or images in one, are taken for a slip of the hand.
const MOST: usize = 1 << 16;
/// What [`Purpose::Measure`] draws of episodes are counted from, behind all other measurements.
const KEY: u64 = 1 << 49;

/// What is measured of one-shot recognition, whenever kNN is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneShotConfig {
    /// Episodes of 20 ways within one alphabet (Lake et al. 2015: 20).
    pub runs: usize,
    /// Episodes of 5 ways (Vinyals et al. 2016; 600 in most reports).
    pub episodes: usize,
    /// Questions of each class in an episode of 5 ways (15 in most reports).
    pub queries: usize,
}

impl OneShotConfig {
    /// Refuses nothing to measure, and too much.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        for (key, value) in [("runs", self.runs), ("episodes", self.episodes), ("queries", self.queries)] {
            if !(1..=MOST).contains(&value) {
                let message = format!("measure.one_shot.{key}: {value} must be between 1 and {MOST}");
                return Err(Error::Usage(message));
            }
        }
        Ok(())
    }

    /// Lake's task: 20 ways, one example, one question of each class, within one alphabet.
    pub fn lake(&self) -> Task {
        Task { way: 20, shot: 1, queries: 1, episodes: self.runs, within: true }
    }

    /// 5 ways, `shot` examples, classes of all alphabets.
    pub fn five_way(&self, shot: usize) -> Task {
        Task { way: 5, shot, queries: self.queries, episodes: self.episodes, within: false }
    }
}

/// N-way K-shot episodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Classes N of an episode.
    pub way: usize,
    /// Examples K of each.
    pub shot: usize,
    /// Questions of each.
    pub queries: usize,
    /// Episodes.
    pub episodes: usize,
    /// Whether the classes of an episode are all of one group (an alphabet).
    pub within: bool,
}

/// One episode: images by their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    /// The examples of each class, (N, K).
    pub support: Vec<Vec<usize>>,
    /// The questions of each class, (N, Q).
    pub query: Vec<Vec<usize>>,
}

/// How a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classifier {
    /// The class of the nearest example by cosine.
    Nearest,
    /// The class of the nearest mean of examples by squared Euclidean distance (Snell et al. 2017).
    Prototype,
    /// The class of the nearest mean of examples by cosine, the examples being of unit length.
    PrototypeCosine,
}

impl Classifier {
    /// All, in reading order, each with its name.
    pub const ALL: [(Classifier, &str); 3] = [
        (Classifier::Nearest, "nearest example (cosine)"),
        (Classifier::Prototype, "nearest mean (Euclidean)"),
        (Classifier::PrototypeCosine, "nearest mean (cosine)"),
    ];
}

/// `count` different entries of `list` in the order in which they are drawn; fewer where it has
/// fewer.
fn draw<T: Clone>(list: &[T], count: usize, rng: &mut Stream) -> Vec<T> {
    let mut left = list.to_vec();
    (0..count.min(left.len())).map(|_| left.swap_remove(below(left.len(), rng))).collect()
}

impl Task {
    /// The episodes of images with these labels (N) for `seed`, and each label's group by its
    /// number. Classes with fewer than K + Q images take no part; none where no group has enough
    /// classes.
    pub fn draw(&self, labels: &[u32], groups: &[u32], seed: u64) -> Option<Vec<Episode>> {
        let count = labels.iter().max().map_or(0, |label| *label as usize + 1);
        let mut images = vec![Vec::new(); count];
        labels.iter().enumerate().for_each(|(image, label)| images[*label as usize].push(image));
        let group_of = |class: usize| if self.within { groups.get(class).copied().unwrap_or(0) } else { 0 };
        let enough = self.shot.saturating_add(self.queries);
        let mut by_group: Vec<Vec<&[usize]>> = Vec::new();
        for (class, images) in images.iter().enumerate().filter(|(_, images)| images.len() >= enough) {
            let group = group_of(class) as usize;
            by_group.resize(by_group.len().max(group + 1), Vec::new());
            by_group[group].push(images);
        }
        by_group.retain(|classes| classes.len() >= self.way);
        if by_group.is_empty() || self.way == 0 || self.shot == 0 || self.queries == 0 {
            return None;
        }
        let kind = (self.way as u64) << 16 | self.shot as u64;
        let episode = |number: usize| {
            let rng = &mut stream(seed, Purpose::Measure, KEY + kind, number as u64);
            // Groups take turns, so that none is missing by chance.
            let classes = draw(&by_group[number % by_group.len()], self.way, rng);
            let of_class = |images: &[usize]| {
                let mut support = draw(images, enough, rng);
                let query = support.split_off(self.shot);
                (support, query)
            };
            let (support, query) = classes.into_iter().map(of_class).unzip();
            Episode { support, query }
        };
        Some((0..self.episodes).map(episode).collect())
    }
}

impl Episode {
    /// The class that `by` answers to each question, class after class, from the features `x`
    /// (images, D); of equally near classes the first.
    pub fn answers(&self, x: ArrayView2<f32>, by: Classifier) -> Vec<usize> {
        // Of rows of unit length the nearest has the largest cosine.
        let place = |point: Vec<f64>| if by == Classifier::Prototype { point } else { unit(point) };
        let shown = |image: &usize| place(x.row(*image).iter().map(|v| f64::from(*v)).collect());
        let points: Vec<(usize, Vec<f64>)> = match by {
            Classifier::Nearest => {
                let all = self.support.iter().enumerate();
                all.flat_map(|(class, images)| images.iter().map(move |image| (class, shown(image))))
                    .collect()
            }
            Classifier::Prototype | Classifier::PrototypeCosine => {
                let mean = |images: &Vec<usize>| {
                    let mut sum = vec![0.0; x.ncols()];
                    for image in images {
                        sum.iter_mut().zip(shown(image)).for_each(|(sum, v)| *sum += v);
                    }
                    place(sum.into_iter().map(|v| v / images.len() as f64).collect())
                };
                self.support.iter().map(mean).enumerate().collect()
            }
        };
        let answer = |image: &usize| {
            let question = shown(image);
            let mut best = (0, f64::INFINITY);
            for (class, point) in &points {
                let distance: f64 = point.iter().zip(&question).map(|(a, b)| (a - b).powi(2)).sum();
                if distance < best.1 {
                    best = (*class, distance);
                }
            }
            best.0
        };
        self.query.iter().flatten().map(answer).collect()
    }

    /// The part of its questions that `by` answers right.
    pub fn accuracy(&self, x: ArrayView2<f32>, by: Classifier) -> f64 {
        let truth =
            self.query.iter().enumerate().flat_map(|(class, images)| images.iter().map(move |_| class));
        let answers = self.answers(x, by);
        let right = answers.iter().zip(truth).filter(|(answer, class)| **answer == *class).count();
        right as f64 / answers.len().max(1) as f64
    }
}

/// A vector divided by its length, which is taken as at least 1e-12.
fn unit(point: Vec<f64>) -> Vec<f64> {
    let length = point.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
    point.into_iter().map(|v| v / length).collect()
}

/// The mean accuracy over `episodes` with its 95 % interval (Student's t over episodes), parts of
/// 1; none without episodes.
pub fn accuracy(episodes: &[Episode], x: ArrayView2<f32>, by: Classifier) -> Option<Estimate> {
    let values: Vec<f64> = episodes.iter().map(|episode| episode.accuracy(x, by)).collect();
    Estimate::of(&values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_asks_of_other_images_than_it_shows_and_of_classes_of_one_group() {
        let labels: Vec<u32> = (0..300).map(|image| image % 30).collect();
        let groups: Vec<u32> = (0..30).map(|class| class % 3).collect();
        let task = Task { way: 10, shot: 2, queries: 3, episodes: 9, within: true };
        let episodes = task.draw(&labels, &groups, 5).unwrap();
        assert_eq!(episodes.len(), 9);
        for (number, episode) in episodes.iter().enumerate() {
            assert_eq!([episode.support.len(), episode.query.len()], [10, 10]);
            let mut classes = Vec::new();
            for (support, query) in episode.support.iter().zip(&episode.query) {
                let mut all: Vec<usize> = support.iter().chain(query).copied().collect();
                classes.push(labels[all[0]]);
                assert!(all.iter().all(|image| labels[*image] == labels[all[0]]));
                all.sort_unstable();
                all.dedup();
                assert_eq!(all.len(), 5, "no image twice");
            }
            assert!(classes.iter().all(|class| groups[*class as usize] as usize == number % 3));
            classes.sort_unstable();
            classes.dedup();
            assert_eq!(classes.len(), 10, "no class twice");
        }
        assert_eq!(Some(episodes), task.draw(&labels, &groups, 5));
    }

    #[test]
    fn too_few_classes_or_images_give_no_episodes() {
        let labels: Vec<u32> = (0..40).map(|image| image % 4).collect();
        let task = Task { way: 4, shot: 1, queries: 9, episodes: 2, within: false };
        assert!(task.draw(&labels, &[], 0).is_some());
        assert_eq!(Task { way: 5, ..task }.draw(&labels, &[], 0), None);
        assert_eq!(Task { shot: 2, ..task }.draw(&labels, &[], 0), None);
        assert_eq!(Task { within: true, ..task }.draw(&labels, &[0, 0, 1, 1], 0), None);
        assert_eq!(Task { shot: usize::MAX, ..task }.draw(&labels, &[], 0), None);
        assert_eq!(task.draw(&[], &[], 0), None);
    }
}
