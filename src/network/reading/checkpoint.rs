//! PyTorch's checkpoints: a pickle that says what there is, and storages that hold the numbers.
//! Since version 1.6 both lie in a zip archive, before it one behind the other.

use super::{OLD_MAGIC, ShapedNumbers, Tensors, numbers};
use crate::error::{Error, Result};
use crate::pickle::{Id, Pickle, Value};
use flate2::Crc;
use safetensors::Dtype;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Cursor;
use zip::result::ZipResult;
use zip::{CompressionMethod, ZipArchive};

/// The numbers of storages by key, as bytes.
type Storages<'a> = HashMap<String, &'a [u8]>;

/// Under which keys a checkpoint keeps its state dict, the likeliest first.
const STATE_DICTS: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "network"];
/// A state dict lies no deeper in a checkpoint.
const DEEPEST: usize = 4;
/// Several tensors may show one storage. More numbers than this for each byte of a file are a
/// hostile file's.
const NUMBERS_PER_BYTE: usize = 4;

fn wrong(what: impl Into<String>) -> Error {
    Error::Failure(what.into())
}

/// The tensors of a zip archive's state dict.
///
/// # Errors
/// [`Error::Failure`] saying how the archive is damaged or what it holds in place of tensors.
pub fn read_zip(bytes: &[u8]) -> Result<Tensors> {
    let members = zip_members(bytes)?;
    let described = members.keys().find_map(|name| Some((name, name.strip_suffix("data.pkl")?)));
    let Some((described, folder)) =
        described.filter(|(_, folder)| folder.is_empty() || folder.ends_with('/'))
    else {
        return Err(wrong("is a zip archive, but not one of PyTorch's: it has no data.pkl"));
    };
    if members.get(&format!("{folder}byteorder")).is_some_and(|order| *order != b"little") {
        return Err(wrong("was written on a big-endian machine, which is not read here"));
    }
    let pickle = Pickle::read(members[described])?;
    let data = format!("{folder}data/");
    let stored =
        members.iter().filter_map(|(name, bytes)| Some((name.strip_prefix(&data)?.to_string(), *bytes)));
    read_tensors(&pickle, &stored.collect(), bytes.len())
}

/// The members of a zip archive, each where it lies in `bytes`; PyTorch compresses nothing.
fn zip_members(bytes: &[u8]) -> Result<HashMap<String, &[u8]>> {
    let damaged = |e| wrong(format!("is a damaged PyTorch checkpoint (a zip archive): {e}"));
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let is_program = |name: ZipResult<_>| name.is_ok_and(|name: Cow<str>| name.ends_with("/constants.pkl"));
    if archive.file_names().any(is_program) {
        return Err(wrong(
            "is a TorchScript program, not weights; save torch.jit.load(file).state_dict() instead",
        ));
    }
    let (mut members, mut total) = (HashMap::new(), 0usize);
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(damaged)?;
        if member.is_dir() {
            continue;
        }
        let name = member.name().map_err(damaged)?.into_owned();
        if member.compression() != CompressionMethod::Stored {
            let what = "which PyTorch does not do; unpack it and save the weights again with torch.save";
            return Err(wrong(format!("is a zip archive whose '{name}' is compressed, {what}")));
        }
        let start = member.data_start().and_then(|start| usize::try_from(start).ok());
        let end = start.and_then(|start| start.checked_add(usize::try_from(member.size()).ok()?));
        let found = start.zip(end).and_then(|(start, end)| bytes.get(start..end));
        let found = found.ok_or_else(|| wrong(format!("is a zip archive that breaks off in '{name}'")))?;
        total = total.saturating_add(found.len());
        if total > bytes.len() {
            return Err(wrong("is a zip archive whose members lie over each other"));
        }
        let mut sum = Crc::new();
        sum.update(found);
        if sum.sum() != member.crc32() {
            return Err(wrong(format!(
                "is damaged: the checksum of '{name}' is another (or it was written without checksums, which \
                 torch.serialization.set_crc32_options decides)"
            )));
        }
        members.insert(name, found);
    }
    Ok(members)
}

/// The tensors of a container of PyTorch before 1.6: pickles of a magic number, a version, the
/// machine, the object and the storages' keys; then for each key its length and its numbers.
///
/// # Errors
/// As [`read_zip`].
pub fn read_old(bytes: &[u8]) -> Result<Tensors> {
    let mut rest = &bytes[OLD_MAGIC.len()..];
    let mut next = || -> Result<Pickle> {
        let pickle = Pickle::read(rest)?;
        rest = &rest[pickle.len..];
        Ok(pickle)
    };
    let (_version, machine, pickle, keys) = (next()?, next()?, next()?, next()?);
    if let Value::Dict(facts) = machine.root() {
        let big = |(key, value): &(Id, Id)| {
            *machine.get(*key) == Value::Text("little_endian") && machine.size(*value) == Some(0)
        };
        if facts.iter().any(big) {
            return Err(wrong("was written on a big-endian machine, which is not read here"));
        }
    }
    let widths: HashMap<&str, usize> = pickle
        .values()
        .filter_map(|value| match value {
            Value::Stored(id) => Storage::of(&pickle, *id).ok().map(|s| (s.key, s.dtype.bitsize() / 8)),
            _ => None,
        })
        .collect();
    let mut storages = Storages::new();
    let Value::Sequence(keys_in_order) = keys.root() else {
        return Err(wrong("is a damaged PyTorch checkpoint: it has no list of storages"));
    };
    for key in keys_in_order {
        let Value::Text(key) = *keys.get(*key) else { continue };
        let breaks_off = || wrong(format!("is a PyTorch checkpoint that breaks off in storage '{key}'"));
        let width = widths.get(key).ok_or_else(breaks_off)?;
        let (count, data) = rest.split_first_chunk().ok_or_else(breaks_off)?;
        let len =
            usize::try_from(u64::from_le_bytes(*count)).ok().and_then(|count| count.checked_mul(*width));
        let (data, behind) = len.and_then(|len| data.split_at_checked(len)).ok_or_else(breaks_off)?;
        storages.insert(key.to_string(), data);
        rest = behind;
    }
    read_tensors(&pickle, &storages, bytes.len())
}

/// The tensors of the state dict that `pickle` has at its top or under a known key.
fn read_tensors(pickle: &Pickle, storages: &Storages, file_len: usize) -> Result<Tensors> {
    let mut left = file_len.saturating_mul(NUMBERS_PER_BYTE);
    let mut tensors = Tensors::new();
    for (name, id) in state_dict(pickle)? {
        let Value::Text(name) = pickle.get(*name) else { continue };
        let Some(described) = described(pickle, *id) else { continue };
        let tensor = Tensor::of(pickle, described).and_then(|tensor| tensor.read(storages, &mut left));
        tensors.insert(name.to_string(), tensor.map_err(|e| e.of_tensor(name))?);
    }
    Ok(tensors)
}

/// The entries of the state dict.
fn state_dict<'a>(pickle: &'a Pickle) -> Result<&'a [(Id, Id)]> {
    let mut found = pickle.root();
    for _ in 0..DEEPEST {
        let entries = match found {
            Value::Dict(entries) => entries,
            Value::Call(class, _) => {
                let name = match pickle.get(*class) {
                    Value::Global(module, name) => format!("{module}.{name}"),
                    _ => "unknown class".into(),
                };
                return Err(wrong(format!(
                    "holds a whole object ({name}) in the place of weights; save model.state_dict() instead"
                )));
            }
            _ => break,
        };
        let under = |key: &str| {
            let entry = entries.iter().rev().find(|(name, _)| *pickle.get(*name) == Value::Text(key));
            entry
                .map(|(_, value)| pickle.get(*value))
                .filter(|v| matches!(v, Value::Dict(_) | Value::Call(..)))
        };
        match STATE_DICTS.iter().find_map(|key| under(key)) {
            Some(inner) => found = inner,
            None if entries.iter().any(|(_, id)| described(pickle, *id).is_some()) => return Ok(entries),
            None => return Err(no_state_dict(pickle, entries)),
        }
    }
    Err(wrong("holds no state dict (tensors by name); save model.state_dict()"))
}

fn no_state_dict(pickle: &Pickle, entries: &[(Id, Id)]) -> Error {
    let text = |(name, _): &(Id, Id)| match pickle.get(*name) {
        Value::Text(name) => Some(format!("'{name}'")),
        _ => None,
    };
    let keys: Vec<String> = entries.iter().filter_map(text).take(8).collect();
    let keys = if keys.is_empty() { "is empty".into() } else { format!("has {}", keys.join(", ")) };
    wrong(format!(
        "holds no tensors: it {keys}; weights are read from a state dict, or from one under '{}'",
        STATE_DICTS.join("', '")
    ))
}

/// The arguments of the function that rebuilds the tensor at `id`, where one is there.
fn described(pickle: &Pickle, mut id: Id) -> Option<Id> {
    for _ in 0..DEEPEST {
        let Value::Call(callable, arguments) = *pickle.get(id) else { return None };
        let given = pickle.sequence(arguments);
        match *pickle.get(callable) {
            Value::Global("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => {
                return Some(arguments);
            }
            Value::Global("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                id = *given.first()?
            }
            Value::Global("torch._tensor", "_rebuild_from_type_v2") => {
                let rebuilds = pickle.get(*given.first()?);
                let plain = matches!(rebuilds, Value::Global("torch._utils", "_rebuild_tensor_v2"));
                return given.get(2).copied().filter(|_| plain);
            }
            _ => return None,
        }
    }
    None
}

/// A storage as a pickle names it.
struct Storage<'a> {
    dtype: Dtype,
    key: &'a str,
}

impl<'a> Storage<'a> {
    /// The storage of a tuple ('storage', class, key, place, numbers).
    fn of(pickle: &Pickle<'a>, id: Id) -> Result<Self> {
        let &[_, class, key, ..] = pickle.sequence(id) else {
            return Err(wrong("names no storage"));
        };
        let (Value::Global(_, class), Value::Text(key)) = (pickle.get(class), pickle.get(key)) else {
            return Err(wrong("names no storage"));
        };
        let dtype = match *class {
            "FloatStorage" => Dtype::F32,
            "DoubleStorage" => Dtype::F64,
            "HalfStorage" => Dtype::F16,
            "BFloat16Storage" => Dtype::BF16,
            "LongStorage" => Dtype::I64,
            "IntStorage" => Dtype::I32,
            "ShortStorage" => Dtype::I16,
            "CharStorage" => Dtype::I8,
            "ByteStorage" => Dtype::U8,
            "BoolStorage" => Dtype::BOOL,
            other => return Err(wrong(format!("has numbers of kind {other}, which are not read here"))),
        };
        Ok(Self { dtype, key })
    }
}

/// A tensor as a pickle describes it: which numbers of a storage it shows.
struct Tensor<'a> {
    storage: Storage<'a>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl<'a> Tensor<'a> {
    /// The tensor of the arguments (storage, offset, size, stride, …).
    fn of(pickle: &Pickle<'a>, arguments: Id) -> Result<Self> {
        let damaged = || wrong("is described in a way that PyTorch does not write");
        let &[stored, offset, shape, strides, ..] = pickle.sequence(arguments) else { return Err(damaged()) };
        let Value::Stored(storage) = pickle.get(stored) else { return Err(damaged()) };
        let (offset, shape) = pickle.size(offset).zip(pickle.sizes(shape)).ok_or_else(damaged)?;
        let strides = pickle.sizes(strides).filter(|strides| strides.len() == shape.len());
        Ok(Self {
            storage: Storage::of(pickle, *storage)?,
            offset,
            shape,
            strides: strides.ok_or_else(damaged)?,
        })
    }

    /// Its numbers in the order of its indices; `left` is how many numbers may still be read from
    /// this file.
    fn read(self, storages: &Storages, left: &mut usize) -> Result<ShapedNumbers> {
        let Tensor { storage: Storage { dtype, key }, offset, shape, strides } = self;
        let bytes =
            storages.get(key).ok_or_else(|| wrong(format!("lies in a storage '{key}' that is not there")))?;
        let width = dtype.bitsize() / 8;
        let too_many = || wrong(format!("has shape {shape:?}, far more numbers than the file has bytes for"));
        let len = shape.iter().try_fold(1usize, |len, side| len.checked_mul(*side)).ok_or_else(too_many)?;
        if len == 0 {
            return Ok((shape, Vec::new()));
        }
        let steps = shape.iter().zip(&strides);
        let reach = steps
            .clone()
            .try_fold(0usize, |reach, (side, stride)| reach.checked_add((side - 1).checked_mul(*stride)?));
        let begin = offset.checked_mul(width);
        let end = reach.and_then(|reach| reach.checked_add(1)?.checked_mul(width)?.checked_add(begin?));
        let Some(shown) = begin.zip(end).and_then(|(begin, end)| bytes.get(begin..end)) else {
            return Err(wrong(format!("of shape {shape:?} reaches beyond its storage '{key}'")));
        };
        *left = left.checked_sub(len.max(shown.len() / width)).ok_or_else(too_many)?;
        let values = numbers(dtype, shown)?;
        if values.len() == len && is_row_major(&shape, &strides) {
            return Ok((shape, values));
        }
        let mut places = vec![0];
        for (side, stride) in steps {
            places = places.iter().flat_map(|place| (0..*side).map(move |i| place + i * stride)).collect();
        }
        let values = places.into_iter().map(|place: usize| values[place]).collect();
        Ok((shape, values))
    }
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(side, stride)| {
        let right = *side == 1 || *stride == expected;
        expected *= side;
        right
    })
}
