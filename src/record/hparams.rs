//! What TensorBoard's plugin `hparams` reads of a run: the keys of its recipe, and how it ended.
//!
//! ```text
//! Summary           { 1: Value { 1: string tag, 8: Tensor { 1: 1, 2: {} }, 9: Metadata } }
//! Metadata          { 1: PluginData { 1: "hparams", 2: bytes of HParamsPluginData } }
//! HParamsPluginData { 1: int version, 3: SessionStartInfo | 4: SessionEndInfo }
//! SessionStartInfo  { 1: map<string, google.protobuf.Value> hparams, 5: double start_time }
//! SessionEndInfo    { 1: Status, 2: double end_time }
//! google.protobuf.Value { 2: double | 3: string | 4: bool }
//! ```
//!
//! (tensorboard/plugins/hparams/plugin_data.proto). Without a description of the experiment as a
//! whole TensorBoard makes it of its runs.

use super::keys::Keys;
use super::protobuf::{bytes, double, number};

/// Under which tags the plugin looks.
const BEGAN: &str = "_hparams_/session_start_info";
const ENDED: &str = "_hparams_/session_end_info";
/// `Status` in plugin_data.proto.
const SUCCESS: u64 = 1;
const FAILURE: u64 = 2;

/// The `Summary` that a run with these `keys` began at `time`, in seconds since 1970.
pub fn began(keys: &Keys, time: f64) -> Vec<u8> {
    let mut info = Vec::new();
    for (name, value) in keys {
        let mut entry = Vec::new();
        bytes(&mut entry, 1, name.as_bytes());
        bytes(&mut entry, 2, &of_toml(value));
        bytes(&mut info, 1, &entry);
    }
    double(&mut info, 5, time);
    summary(BEGAN, 3, &info)
}

/// The `Summary` that a run ended at `time`, `finished` or not.
pub fn ended(finished: bool, time: f64) -> Vec<u8> {
    let mut info = Vec::new();
    number(&mut info, 1, if finished { SUCCESS } else { FAILURE });
    double(&mut info, 2, time);
    summary(ENDED, 4, &info)
}

/// A `google.protobuf.Value` of a key's value as TOML.
fn of_toml(value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    match (value, value.parse::<f64>()) {
        ("true" | "false", _) => number(&mut out, 4, u64::from(value == "true")),
        (_, Ok(as_number)) => double(&mut out, 2, as_number),
        (text, Err(_)) => bytes(&mut out, 3, text.trim_matches('"').as_bytes()),
    }
    out
}

/// A `Summary` with `info` as the field `kind` of the plugin's message.
fn summary(tag: &str, kind: u64, info: &[u8]) -> Vec<u8> {
    let (mut message, mut plugin, mut metadata) = (Vec::new(), Vec::new(), Vec::new());
    number(&mut message, 1, 0);
    bytes(&mut message, kind, info);
    bytes(&mut plugin, 1, b"hparams");
    bytes(&mut plugin, 2, &message);
    bytes(&mut metadata, 1, &plugin);
    // A scalar of type float that holds nothing: what is told stands in the metadata.
    let (mut tensor, mut value, mut summary) = (Vec::new(), Vec::new(), Vec::new());
    number(&mut tensor, 1, 1);
    bytes(&mut tensor, 2, &[]);
    bytes(&mut value, 1, tag.as_bytes());
    bytes(&mut value, 8, &tensor);
    bytes(&mut value, 9, &metadata);
    bytes(&mut summary, 1, &value);
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_kind() {
        assert_eq!(of_toml("true"), [0x20, 1]);
        assert_eq!(of_toml("1.0"), [&[0x11][..], &1f64.to_le_bytes()].concat());
        assert_eq!(of_toml("\"cosine\""), [&[0x1a, 6][..], b"cosine"].concat());
        assert_eq!(of_toml("[0.2, 1.0]"), [&[0x1a, 10][..], b"[0.2, 1.0]"].concat());
    }
}
