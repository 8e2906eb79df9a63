//! Each augmentation against torchvision's functional operations with the same parameters.

use crate::support::{augmentations, golden, max_difference, shared};
use simsiam_em::augment::{self, AugmentConfig, CropBox, Image, Scratch};
use simsiam_em::network::{Tensors, read_weights};
use simsiam_em::rng::{Purpose, stream};
use std::path::Path;

/// What torchvision and this program may differ by, of values in [0, 1].
const TOLERANCE: f64 = 2e-3;

#[test]
fn every_operation_equals_torchvisions() {
    assert!(compare(&golden("augment.safetensors")) >= 24);
    if let Some(path) = shared("golden/augment.safetensors") {
        assert!(compare(&path) >= 24);
    }
}

/// Compares all operations in a file and returns how many there were.
fn compare(path: &Path) -> usize {
    let tensors = read_weights(path).unwrap();
    let (shape, images) = tensors["images"].clone();
    let (height, width) = (shape[2], shape[3]);
    let mut seen = 0;
    for (key, (shape, expected)) in &tensors {
        if key == "images" || key == "note" || key.ends_with("box_top_left_h_w") {
            continue;
        }
        let (out_height, out_width) = (shape[2], shape[3]);
        let inputs = images.chunks_exact(3 * height * width);
        for (input, expected) in inputs.zip(expected.chunks_exact(3 * out_height * out_width)) {
            let got = apply(key, &tensors, input, (height, width), (out_height, out_width));
            let error = max_difference(&got, expected);
            assert!(error < TOLERANCE, "{key}: off by {error:.1e}");
        }
        seen += 1;
    }
    seen
}

fn apply(
    key: &str,
    tensors: &Tensors,
    input: &[f32],
    (height, width): (usize, usize),
    (out_height, out_width): (usize, usize),
) -> Vec<f32> {
    let (operation, parameter) = key.split_once('.').unwrap_or((key, ""));
    let value = || parameter.parse::<f32>().unwrap();
    let mut planes = input.to_vec();
    match operation {
        "brightness" => augment::brightness(&mut planes, value()),
        "contrast" => augment::contrast(&mut planes, value()),
        "saturation" => augment::saturation(&mut planes, value()),
        "hue" => augment::hue(&mut planes, value()),
        "grayscale" => augment::grayscale(&mut planes),
        "hflip" => augment::horizontal_flip(&mut planes, width),
        "gaussian_blur_k3" => augment::gaussian_blur(&mut planes, height, width, 3, value()),
        _ if operation.starts_with("resized_crop") => {
            let region = &tensors[&format!("resized_crop.{parameter}.box_top_left_h_w")].1;
            let side = |i: usize| region[i] as usize;
            let region = CropBox { top: side(0), left: side(1), height: side(2), width: side(3) };
            let pixels = (0..3 * height * width)
                .map(|i| (255.0 * input[i % 3 * height * width + i / 3]).round() as u8)
                .collect();
            planes = augment::resized_crop(&Image { height, width, pixels }, region, out_height, out_width);
        }
        _ => panic!("an operation without a test: {key}"),
    }
    planes
}

fn recipe() -> AugmentConfig {
    AugmentConfig { blur: 0.5, ..augmentations(32) }
}

#[test]
fn a_view_is_a_function_of_its_stream_and_stays_within_the_range_of_colours() {
    let pixels = (0..40 * 30 * 3).map(|i| (i * 7 % 256) as u8).collect();
    let image = Image { height: 40, width: 30, pixels };
    let view = |counter: u64| {
        let mut out = vec![0.0; 32 * 32 * 3];
        let mut rng = stream(1, Purpose::Augment, counter, 0);
        augment::view(&recipe(), &image, &mut rng, &mut Scratch::default(), &mut out);
        out
    };
    assert_eq!(view(3), view(3));
    assert_ne!(view(3), view(4));
    for counter in 0..200 {
        assert!(view(counter).iter().all(|v| (-2.001..=2.001).contains(v)));
    }
}

#[test]
fn images_of_one_pixel_and_of_extreme_shape_have_views() {
    for (height, width) in [(1, 1), (1, 300), (300, 1), (2, 3)] {
        let image = Image { height, width, pixels: vec![200; height * width * 3] };
        let mut out = vec![f32::NAN; 32 * 32 * 3];
        let mut rng = stream(1, Purpose::Augment, 0, 0);
        augment::view(&recipe(), &image, &mut rng, &mut Scratch::default(), &mut out);
        assert!(out.iter().all(|v| v.is_finite()), "{height}×{width}");
    }
}
