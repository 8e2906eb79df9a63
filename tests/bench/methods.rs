//! Each method's SGD step beside what its forward and backward passes predict from SimSiam's, by
//! turns: `cargo bench --bench methods [laptop|resnet18|all] [rounds] [threads]`.
//!
//! A forward pass F of one view is timed alone; SimSiam's step is two of them and two backward
//! passes. So BYOL, which passes two views more through ξ, is predicted to take 2F longer, and so
//! on.

use candle_core::{Device, Tensor};
use rand::Rng;
use simsiam_em::device::processor_kernel;
use simsiam_em::eta::{BankPlace, Size, Views};
use simsiam_em::recipe::Recipe;
use simsiam_em::rng::{Purpose, stream};
use simsiam_em::study::{Request, Study};
use simsiam_em::train::{Alternation, Model, Rates};
use std::time::Instant;

/// As in the program: without it the system's allocator gives back large tensors' pages at each
/// step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Steps of each method in a round.
const STEPS: usize = 3;

fn noise(views: usize, batch: usize, side: usize) -> Tensor {
    let mut rng = stream(0, Purpose::Test, side as u64, 0);
    let x: Vec<f32> = (0..views * batch * side * side * 3).map(|_| rng.random::<f32>() - 0.5).collect();
    Tensor::from_vec(x, (views, batch, side, side, 3), &Device::Cpu).unwrap()
}

/// A method with its batch.
struct Timed {
    name: String,
    alternation: Alternation,
    views: Views,
    step: u64,
    /// Views with gradient, small crops with gradient, and views without.
    trained: f64,
    small: f64,
    frozen: f64,
    seconds: Vec<f64>,
}

impl Timed {
    fn new(name: String, recipe: &Recipe) -> Self {
        let model = Model::of(recipe, &processor_kernel(recipe.encoder.precision).unwrap()).unwrap();
        let (batch, side) = (recipe.schedule.batch, recipe.augment.size);
        let size = Size {
            images: batch,
            dim: model.output_dim(),
            per_epoch: 1,
            steps: 1000,
            views: recipe.views(),
            ..Size::default()
        };
        let place = BankPlace::default();
        let rule = recipe.eta.build(&size, &place).unwrap();
        let alternation =
            Alternation::new(model, &recipe.eta, rule, recipe.objective.clone(), recipe.optim.clone(), 0)
                .unwrap();
        let crops = recipe.augment.multi_crop.as_ref();
        let small = crops.map(|crops| noise(crops.count, batch, crops.size));
        let count = crops.map_or(0.0, |crops| crops.count as f64);
        let trained = recipe.objective.trained_views();
        let with_gradient = recipe.eta.views_with_gradient(recipe.objective.views(), trained) as f64;
        let views = Views {
            step: 0,
            indices: (0..batch as u32).collect(),
            x: noise(recipe.views(), batch, side),
            labels: vec![0; batch],
            small,
        };
        Self {
            name,
            alternation,
            views,
            step: 0,
            trained: with_gradient,
            small: count,
            frozen: 0.0,
            seconds: Vec::new(),
        }
    }

    fn step(&mut self) {
        let views = self.views.clone();
        let mut batch = |step| Ok(Views { step, ..views.clone() });
        let begun = Instant::now();
        let rates = Rates { encoder: 0.01, predictor: 0.01 };
        let made = self.alternation.step(self.step, 1000, rates, &mut batch).unwrap();
        self.seconds.push(begun.elapsed().as_secs_f64());
        self.frozen = made.e_passed as f64 / self.views.indices.len() as f64;
        self.step += 1;
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(name: &str, set: &[&str], rounds: usize) {
    let set: Vec<String> = set.iter().map(|set| set.to_string()).collect();
    let arms = |study: &str| {
        let request = Request { set: set.clone(), ..Request::default() };
        Study::find(study).unwrap().resolve(&request).unwrap()
    };
    let crops = arms("swav").into_iter().filter(|arm| arm.name == "multi-crop");
    let mut all: Vec<_> =
        arms("methods").into_iter().chain(crops).map(|arm| (arm.name, arm.recipe)).collect();
    // SimSiam on images as small as the small crops: few pixels are dearer than their number says.
    let mut tiny = all[0].1.clone();
    let small = all.iter().find_map(|(_, recipe)| recipe.augment.multi_crop.as_ref());
    tiny.augment.size = small.map_or(tiny.augment.size, |crops| crops.size);
    all.push(("tiny".to_string(), tiny));
    let mut all: Vec<Timed> = all.into_iter().map(|(name, recipe)| Timed::new(name, &recipe)).collect();
    let batch = all[0].views.indices.len();
    let one = all[0].views.x.narrow(0, 0, 1).unwrap();
    let mut forward = Vec::new();
    for round in 0..=rounds {
        for timed in &mut all {
            (0..STEPS).for_each(|_| timed.step());
            if round == 0 {
                timed.seconds.clear();
            }
        }
        for _ in 0..STEPS {
            let begun = Instant::now();
            drop(all[0].alternation.model.frozen_z(&one).unwrap());
            forward.push(begun.elapsed().as_secs_f64());
        }
    }
    let forward = median(forward);
    let simsiam = median(all[0].seconds.clone());
    let tiny = all.pop().map_or(f64::NAN, |tiny| median(tiny.seconds));
    println!("{name}, batch {batch}: a forward pass of one view {:.2} ms", forward * 1e3);
    for timed in all {
        // SimSiam's step is two views forward and backward.
        let predicted = simsiam * timed.trained / 2.0 + tiny * timed.small / 2.0 + forward * timed.frozen;
        let seconds = median(timed.seconds);
        println!(
            "    {:12} {:8.2} ms, predicted {:8.2} ms: {:.2}   ({} views and {} small crops with gradient, {} views without)",
            timed.name,
            seconds * 1e3,
            predicted * 1e3,
            seconds / predicted,
            timed.trained,
            timed.small,
            timed.frozen
        );
    }
}

fn main() {
    simsiam_em::threads::on_the_caller();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let number = |i: usize, default: usize| arguments.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (rounds, threads) = (number(1, 15), number(2, 2));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let wanted = |name: &str| arguments.first().is_none_or(|wanted| wanted == name || wanted == "all");
    pool.install(|| {
        if wanted("laptop") {
            measure("laptop", &[], rounds);
        }
        if wanted("resnet18") {
            let large = ["encoder.backbone.resnet18.stem=cifar", "data.shapes_size=32", "augment.size=32"];
            measure("resnet18", &large, rounds.min(5));
        }
    });
}
