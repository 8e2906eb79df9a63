//! Which columns of a table hold images and classes: by what Hugging Face's `datasets` writes of
//! its features, or by their names.

use parquet::basic::Type;
use parquet::file::metadata::FileMetaData;
use serde_json::{Map, Value};

/// Names of columns of images, the first that is there.
const IMAGES: [&str; 2] = ["image", "img"];
/// Names of columns of classes, the first that is there.
const LABELS: [&str; 3] = ["label", "labels", "fine_label"];
/// What `datasets` writes of its features stands under this key of a table's metadata.
const FEATURES: &str = "huggingface";
/// Columns named in a message at most.
const NAMED: usize = 8;

/// The columns of a table that are read, as the numbers of their leaves.
#[derive(Debug, PartialEq)]
pub struct Columns {
    /// The bytes of an image file in each row.
    pub image: usize,
    /// The class; none where images have no labels.
    pub label: Option<usize>,
    /// Names of classes that are numbers, in their order, where the table has them.
    pub classes: Vec<String>,
    /// What is said of this choice.
    pub notes: Vec<String>,
}

impl Columns {
    /// Those of a table with this metadata; or what it lacks.
    pub fn of(metadata: &FileMetaData) -> Result<Columns, String> {
        let features = features(metadata);
        let image = image(metadata, &features)?;
        let Some((name, leaf)) = label(metadata, &features)? else {
            let what = format!(
                "no column is called {}: images have no labels, and no accuracy is measured",
                any(&LABELS)
            );
            return Ok(Columns { image, label: None, classes: Vec::new(), notes: vec![what] });
        };
        let names = features.get(&name).and_then(|feature| feature.get("names")).and_then(Value::as_array);
        let text = |value: &Value| value.as_str().map(String::from);
        let classes = names.and_then(|names| names.iter().map(text).collect()).unwrap_or_default();
        let notes = match LABELS[..2].contains(&name.as_str()) {
            true => Vec::new(),
            false => vec![format!("classes are those of the column {name}")],
        };
        Ok(Columns { image, label: Some(leaf), classes, notes })
    }

    /// Whether tables with these and with `other` columns are parts of one data set. The places of
    /// columns may differ.
    pub fn agree_with(&self, other: &Columns) -> bool {
        (self.label.is_some(), &self.classes, &self.notes)
            == (other.label.is_some(), &other.classes, &other.notes)
    }
}

/// "a, b or c".
fn any(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        names => names.concat(),
    }
}

/// What `datasets` says of the columns: a name and a type for each. Nothing where it says nothing.
fn features(metadata: &FileMetaData) -> Map<String, Value> {
    let said = metadata.key_value_metadata().into_iter().flatten().find(|pair| pair.key == FEATURES);
    let said = said.and_then(|pair| serde_json::from_str::<Value>(pair.value.as_deref()?).ok());
    match said.and_then(|mut said| said.pointer_mut("/info/features").map(Value::take)) {
        Some(Value::Object(features)) => features,
        _ => Map::new(),
    }
}

/// The columns that are a `feature` of `datasets`.
fn of_type(features: &Map<String, Value>, feature: &str) -> Vec<String> {
    let is = |value: &Value| value.get("_type").and_then(Value::as_str) == Some(feature);
    features.iter().filter(|(_, value)| is(value)).map(|(name, _)| name.clone()).collect()
}

/// The leaf with this path and one of these types, of which each row has at most one value.
fn leaf(metadata: &FileMetaData, path: &str, types: &[Type]) -> Option<usize> {
    metadata.schema_descr().columns().iter().position(|column| {
        let flat = column.max_rep_level() == 0 && types.contains(&column.physical_type());
        flat && column.path().string() == path
    })
}

/// Names of the columns, for a person.
fn named(metadata: &FileMetaData) -> String {
    let mut names: Vec<String> = Vec::new();
    for column in metadata.schema_descr().columns() {
        let name = column.path().parts().first().cloned().unwrap_or_default();
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    if names.len() > NAMED {
        names.truncate(NAMED);
        names.push("…".into());
    }
    names.join(", ")
}

/// The leaf of images' bytes: a structure's `bytes`, or the column itself.
fn image(metadata: &FileMetaData, features: &Map<String, Value>) -> Result<usize, String> {
    let bytes = |name: &str| {
        let inside = leaf(metadata, &format!("{name}.bytes"), &[Type::BYTE_ARRAY]);
        inside.or_else(|| leaf(metadata, name, &[Type::BYTE_ARRAY]))
    };
    if let Some(found) = IMAGES.iter().find_map(|name| bytes(name)) {
        return Ok(found);
    }
    match &of_type(features, "Image")[..] {
        [one] if bytes(one).is_some() => Ok(bytes(one).unwrap_or_default()),
        _ => Err(format!(
            "no column of images is called {}; its columns are {}",
            any(&IMAGES),
            named(metadata)
        )),
    }
}

/// Name and leaf of the classes.
fn label(metadata: &FileMetaData, features: &Map<String, Value>) -> Result<Option<(String, usize)>, String> {
    let columns = metadata.schema_descr().columns();
    let is_there =
        |name: &str| columns.iter().any(|column| column.path().parts().first().is_some_and(|p| p == name));
    let name = LABELS.iter().find(|name| is_there(name)).map(|name| name.to_string());
    let name = name.or_else(|| match &of_type(features, "ClassLabel")[..] {
        [one] => Some(one.clone()),
        _ => None,
    });
    let Some(name) = name else { return Ok(None) };
    match leaf(metadata, &name, &[Type::INT32, Type::INT64, Type::BYTE_ARRAY]) {
        Some(leaf) => Ok(Some((name, leaf))),
        None => {
            Err(format!("its column {name} has not one whole number or one text in each row, as a class is"))
        }
    }
}
