//! tmp
use ndarray::Array2;
use simsiam_em::data::*;
use simsiam_em::measure::knn;
fn main() {
    let c = DataConfig {
        source: "shapes".into(),
        train_images: 2000,
        test_images: 1000,
        shapes_size: 24,
        shapes_seed: 0,
        skip_bad: false,
    };
    let d = Dataset::open(&c).unwrap();
    let m = |s: &Split| {
        Array2::from_shape_fn((s.len(), 24 * 24 * 3), |(i, j)| {
            s.image(i).unwrap().pixels[j] as f32 / 255.0 - 0.5
        })
    };
    let p = knn::predict(m(&d.train).view(), d.train.labels(), m(&d.test).view(), 20, 0.1);
    println!("raw pixel kNN {:.1}", knn::top1(&p, d.test.labels()));
    let (n, z) = (12, 24usize);
    let mut img = image::RgbImage::new((n * (z as u32 + 2)) as u32 * 4, 10 * (z as u32 + 2) * 4);
    for y in 0..10u32 {
        for x in 0..n {
            let im = d.train.image((x * 10 + y) as usize).unwrap();
            for py in 0..z * 4 {
                for px in 0..z * 4 {
                    let k = ((py / 4) * z + px / 4) * 3;
                    img.put_pixel(
                        x * 104 + px as u32,
                        y * 104 + py as u32,
                        image::Rgb([im.pixels[k], im.pixels[k + 1], im.pixels[k + 2]]),
                    );
                }
            }
        }
    }
    img.save("/tmp/sheet.png").unwrap();
}
