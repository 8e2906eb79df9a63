//! A batch of CIFAR's Python version: a pickled dict with an array of pixels and a list of labels,
//! as Python 2 wrote the official files and as Python 3 and today's NumPy write the same dict.

use crate::error::{Error, Result};
use crate::pickle::{Id, Pickle, Value};

/// A longer file is refused: that of CIFAR-100's training images has 155 MB.
const LONGEST: usize = 256 << 20;

/// Where the dicts have what is read.
pub struct Keys {
    /// The class of each image.
    pub labels: &'static str,
    /// The name of each class.
    pub names: &'static str,
}

/// The images of one file.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The pixels of each image, plane by plane.
    pub pixels: &'a [u8],
    /// The class of each image.
    pub labels: Vec<u32>,
}

impl<'a> Batch<'a> {
    /// Reads the batch of images of `pixels` bytes each whose labels have the key `labels`.
    ///
    /// # Errors
    /// [`Error::Failure`] for anything else.
    pub fn read(bytes: &'a [u8], labels: &str, pixels: usize) -> Result<Self> {
        let pickle = Pickle::read_within(bytes, LONGEST)?;
        let root = pickle.root_id();
        let lacks = |key: &str| Error::Failure(format!("it holds no dict with `{key}`"));
        let label = |id: &Id| pickle.size(*id).and_then(|label| u32::try_from(label).ok());
        let listed = pickle.item(root, labels).ok_or_else(|| lacks(labels))?;
        let read: Option<Vec<u32>> = pickle.sequence(listed).iter().map(label).collect();
        let read = read.filter(|labels| !labels.is_empty());
        let read = read.ok_or_else(|| Error::Failure(format!("its `{labels}` are no list of classes")))?;
        let array = pickle.item(root, "data").ok_or_else(|| lacks("data"))?;
        let shape = [read.len(), pixels];
        let array = array_of_bytes(&pickle, array, shape).ok_or_else(|| {
            let [images, pixels] = shape;
            Error::Failure(format!("its `data` are no bytes of {images} × {pixels}, one row for each label"))
        })?;
        Ok(Batch { pixels: array, labels: read })
    }
}

/// The names in the list that the pickled dict has for `key`; none where there is no such list.
pub fn names(bytes: &[u8], key: &str) -> Vec<String> {
    let Ok(pickle) = Pickle::read(bytes) else { return Vec::new() };
    let Some(listed) = pickle.item(pickle.root_id(), key) else { return Vec::new() };
    let name = |id: &Id| match pickle.get(*id) {
        Value::Text(name) => Some(name.to_string()),
        _ => None,
    };
    pickle.sequence(listed).iter().map(name).collect::<Option<_>>().unwrap_or_default()
}

/// The bytes of NumPy's array at `id`, where it is one of this `shape`, row by row.
fn array_of_bytes<'a>(pickle: &Pickle<'a>, id: Id, shape: [usize; 2]) -> Option<&'a [u8]> {
    let called = |id: Id| match *pickle.get(id) {
        Value::Call(callable, arguments) => match *pickle.get(callable) {
            Value::Global(module, name) => Some((module, name, arguments)),
            _ => None,
        },
        _ => None,
    };
    let (module, "_reconstruct", _) = called(id)? else { return None };
    let ("numpy.core.multiarray" | "numpy._core.multiarray") = module else { return None };
    // A version, the shape, the type, whether columns are contiguous, and the numbers.
    let &[_, sizes, of, by_columns, numbers] = pickle.sequence(pickle.state(id)?) else { return None };
    let ("numpy", "dtype", arguments) = called(of)? else { return None };
    let of_bytes = pickle.bytes(*pickle.sequence(arguments).first()?)?;
    let numbers = pickle.bytes(numbers)?;
    let holds = of_bytes == b"u1"
        && *pickle.get(by_columns) == Value::Int(0)
        && pickle.sizes(sizes)? == shape
        && shape[0].checked_mul(shape[1]) == Some(numbers.len());
    holds.then_some(numbers)
}
