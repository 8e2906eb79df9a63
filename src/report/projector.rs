//! Features and pictures of images as TensorBoard's projector reads them: a folder of
//! `projector_config.pbtxt`, `tensors.tsv`, `metadata.tsv` and `sprite.png`.

use super::sheet::encode;
use crate::augment::Image;
use crate::error::Result;
use crate::record::{make_folder, write_durable};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use ndarray::Array2;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Side of a picture in the sprite. TensorBoard takes sprites of 8192 dots: 256 in a row.
const SIDE: u32 = 32;

/// Images with their features.
pub struct Projector {
    /// What the features are, a word.
    pub name: String,
    /// (N, D).
    pub features: Array2<f32>,
    /// The file of each, or its number.
    pub images: Vec<String>,
    /// The class of each.
    pub labels: Vec<String>,
    /// The pictures, of any size.
    pub pictures: Vec<Image>,
}

impl Projector {
    /// Writes the four files into `folder`, which `tensorboard --logdir` may be given.
    ///
    /// # Errors
    /// [`crate::Error::Disk`] when one cannot be written.
    pub fn save(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        make_folder(folder)?;
        let files: [(&str, Vec<u8>); 4] = [
            ("tensors.tsv", self.tensors().into_bytes()),
            ("metadata.tsv", self.metadata().into_bytes()),
            ("sprite.png", encode(&self.sprite())?),
            // The last, because TensorBoard looks for it.
            ("projector_config.pbtxt", self.config().into_bytes()),
        ];
        for (name, content) in &files {
            write_durable(&folder.join(name), content)?;
        }
        Ok(files.iter().map(|(name, _)| folder.join(name)).collect())
    }

    fn tensors(&self) -> String {
        let mut text = String::new();
        for row in self.features.rows() {
            let cells: Vec<String> = row.iter().map(f32::to_string).collect();
            let _ = writeln!(text, "{}", cells.join("\t"));
        }
        text
    }

    fn metadata(&self) -> String {
        // What would end a cell or a line.
        let cell = |text: &String| text.replace(['\t', '\n', '\r'], " ");
        let mut text = "image\tlabel\n".to_string();
        for (image, label) in self.images.iter().zip(&self.labels) {
            let _ = writeln!(text, "{}\t{}", cell(image), cell(label));
        }
        text
    }

    /// The pictures row by row in a square.
    fn sprite(&self) -> RgbImage {
        let a_row = (self.pictures.len() as f64).sqrt().ceil().max(1.0) as u32;
        let mut sprite = RgbImage::from_pixel(a_row * SIDE, a_row * SIDE, Rgb([255; 3]));
        for (index, image) in (0u32..).zip(&self.pictures) {
            let whole = RgbImage::from_raw(image.width as u32, image.height as u32, image.pixels.clone());
            let Some(whole) = whole else { continue };
            let filter = if image.width.max(image.height) > SIDE as usize {
                FilterType::Triangle
            } else {
                FilterType::Nearest
            };
            let small = imageops::resize(&whole, SIDE, SIDE, filter);
            let (x, y) = (index % a_row * SIDE, index / a_row * SIDE);
            imageops::replace(&mut sprite, &small, i64::from(x), i64::from(y));
        }
        sprite
    }

    /// tensorboard/plugins/projector/projector_config.proto as text.
    fn config(&self) -> String {
        let name = self.name.replace(['\\', '"', '\n'], " ");
        let (rows, columns) = self.features.dim();
        format!(
            "embeddings {{\n  tensor_name: \"{name}\"\n  tensor_shape: {rows}\n  tensor_shape: {columns}\n  tensor_path: \
             \"tensors.tsv\"\n  metadata_path: \"metadata.tsv\"\n  sprite {{\n    image_path: \"sprite.png\"\n    \
             single_image_dim: {SIDE}\n    single_image_dim: {SIDE}\n  }}\n}}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_line_and_a_picture_belong_to_each_image() {
        let picture = |value: u8| Image { height: 2, width: 2, pixels: vec![value; 12] };
        let projector = Projector {
            name: "z".into(),
            features: array![[0.5f32, -1.0], [0.25, 3.0], [1e-7, 0.0]],
            images: vec!["a\tb".into(), "c".into(), "d".into()],
            labels: vec!["x".into(), "y".into(), "x".into()],
            pictures: [10, 20, 30].map(picture).into(),
        };
        assert_eq!(projector.tensors(), "0.5\t-1\n0.25\t3\n0.0000001\t0\n");
        assert_eq!(projector.metadata(), "image\tlabel\na b\tx\nc\ty\nd\tx\n");
        let sprite = projector.sprite();
        let at = |x: u32, y: u32| sprite.get_pixel(x * SIDE + 5, y * SIDE + 5).0[0];
        assert_eq!(
            (sprite.dimensions(), [at(0, 0), at(1, 0), at(0, 1), at(1, 1)]),
            ((64, 64), [10, 20, 30, 255])
        );
    }
}
