//! TensorBoard event files, written by hand: the crates for it are stale and the format is small.
//!
//! A file is a sequence of records (TFRecord framing):
//!
//! ```text
//! u64 length · u32 masked crc32c(length) · protobuf `Event` · u32 masked crc32c(event)    little-endian
//! Event   { 1: double wall_time, 2: int64 step, 3: string file_version | 5: Summary }
//! Summary { 1: repeated Value { 1: string tag, 2: float simple_value } }
//! ```
//!
//! Beside the numbers stand the recipe's keys and how the run ended, for TensorBoard's table of
//! hyperparameters (its plugin `hparams`): see [`super::hparams`].
//!
//! Invariant: the first record is the version, the file's name is chosen once per run.

use super::digest::Digested;
use super::durable::names;
use super::hparams;
use super::keys::Keys;
use super::log::Log;
use super::protobuf::{bytes, double, key, number};
use crate::error::Result;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// TensorBoard looks for this in a name.
pub const EVENTS_PREFIX: &str = "events.out.tfevents.";

/// The events of one run. Its methods fail as those of [`Log`].
#[derive(Debug)]
pub struct EventsLog(Log);

impl EventsLog {
    /// Goes on with the events file in `folder`, or begins one, of a run with these `keys`.
    pub fn open(folder: &Path, keys: &Keys) -> Result<EventsLog> {
        let kept = names(folder)?.into_iter().rev().find(|name| name.starts_with(EVENTS_PREFIX));
        let name = kept.unwrap_or_else(|| format!("{EVENTS_PREFIX}{:010}.sim", wall_time().trunc() as u64));
        let mut log = Log::open(folder.join(name))?;
        if log.len_bytes() == 0 {
            let mut event = Vec::new();
            double(&mut event, 1, wall_time());
            bytes(&mut event, 3, b"brain.Event:2");
            log.append(&[frame(&event), summary(0, &hparams::began(keys, wall_time()))].concat())?;
        }
        Ok(EventsLog(log))
    }

    /// Appends that the run has ended, `finished` or because it diverged.
    pub fn ended(&mut self, step: u64, finished: bool) -> Result<()> {
        self.0.append(&summary(step, &hparams::ended(finished, wall_time())))
    }

    /// Appends one event with all `values` of a step.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let mut all = Vec::new();
        for (tag, value) in values {
            let mut entry = Vec::new();
            bytes(&mut entry, 1, tag.as_bytes());
            key(&mut entry, 2, 5);
            entry.extend((*value as f32).to_le_bytes());
            bytes(&mut all, 1, &entry);
        }
        self.0.append(&summary(step, &all))
    }

    /// Brings everything to the disk and returns the file's name, length and digest.
    pub fn sync(&self) -> Result<(String, Digested)> {
        self.0.sync()
    }
}

/// Seconds since 1970; a clock before that counts as 0.
fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// A record with the event that has the `Summary` `values` at `step`.
fn summary(step: u64, values: &[u8]) -> Vec<u8> {
    let mut event = Vec::new();
    double(&mut event, 1, wall_time());
    number(&mut event, 2, step);
    bytes(&mut event, 5, values);
    frame(&event)
}

fn frame(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(event.len() + 16);
    record.extend(length);
    record.extend(masked(crc32c(&length)).to_le_bytes());
    record.extend(event);
    record.extend(masked(crc32c(event)).to_le_bytes());
    record
}

/// TFRecord's mask, so that a checksum of data with checksums inside stays a good checksum.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected, bit by bit: a record is some hundred bytes once per epoch.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8)
            .fold(crc ^ u32::from(*byte), |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }
}
