//! `pairs.txt` as LFW has it (Huang et al. 2007): which pairs of images are to be told apart.
//!
//! The first line says the number of folds and of pairs of either kind in each. Then, fold by fold,
//! `NAME  n  m` are two images of one person, `NAME  n  OTHER  m` of two. Image n of a person is
//! `NAME/NAME_000n.jpg`, of whatever type it is; where none of a person's files is called so, the
//! n-th in the order of their names. Columns are told apart by tabs, or by spaces where a line has
//! no tab.

use super::picture::Exif;
use super::{HeldOut, Images, Split, images_in};
use crate::error::{Error, Result};
use crate::files;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An image: whose, and its number from 1 on.
type Named = (String, u32);

/// A pair that a file lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPair {
    /// Both images.
    pub images: [Named; 2],
    /// Whether they are of one person.
    pub same: bool,
    /// The fold, from 0 on.
    pub fold: usize,
}

/// The images that pairs are made of.
#[derive(Debug)]
pub struct PairImages {
    /// Each image once, labelled by its person.
    pub split: Split,
    /// The images of each pair, by their places in `split`.
    pub places: Vec<[usize; 2]>,
}

/// Reads the pairs of the file at `path`.
///
/// # Errors
/// [`Error::Data`] for a file that cannot be read, with the line of what is no pair, or where there
/// are more or fewer than its first line says.
pub fn read_pairs(path: &Path) -> Result<Vec<ListedPair>> {
    let text = files::text(path, files::TABLE)
        .map_err(|e| Error::data(path, format!("cannot be read as pairs: {e}")))?;
    parse(&text).map_err(|what| Error::data(path, what))
}

fn parse(text: &str) -> std::result::Result<Vec<ListedPair>, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let head = lines.next().map_or("", |(_, line)| line);
    let counts: Option<Vec<usize>> = head.split_whitespace().map(|word| word.parse().ok()).collect();
    let [folds, each] = counts.unwrap_or_default()[..] else {
        return Err(format!(
            "begins with '{}' and not with the number of folds and of pairs of either kind in each, such as '10 300'",
            shown(head)
        ));
    };
    let said = folds.checked_mul(each).and_then(|pairs| pairs.checked_mul(2));
    let said = said.filter(|pairs| folds > 1 && *pairs > 0).ok_or_else(|| {
        format!(
            "begins with '{}'; it takes two folds and one pair of either kind in each at least",
            shown(head)
        )
    })?;
    let mut pairs = Vec::new();
    for (number, line) in lines {
        let wrong = |what: &str| format!("line {}: '{}' {what}", number + 1, shown(line));
        let fold = (pairs.len() / each / 2).min(folds - 1);
        pairs.push(pair(line, fold).map_err(|what| wrong(&what))?);
        if pairs.len() > said {
            return Err(format!("has more pairs than the {said} that its first line says"));
        }
    }
    if pairs.len() < said {
        return Err(format!("ends after {} of the {said} pairs that its first line says", pairs.len()));
    }
    for fold in 0..folds {
        let same = pairs[2 * each * fold..2 * each * (fold + 1)].iter().filter(|pair| pair.same).count();
        if same != each {
            return Err(format!(
                "has {same} pairs of one person in fold {} where its first line says {each}",
                fold + 1
            ));
        }
    }
    Ok(pairs)
}

fn pair(line: &str, fold: usize) -> std::result::Result<ListedPair, String> {
    let words: Vec<&str> = match line.contains('\t') {
        true => line.split('\t').map(str::trim).filter(|word| !word.is_empty()).collect(),
        false => line.split_whitespace().collect(),
    };
    let image = |name: &str, number: &str| -> std::result::Result<Named, String> {
        let number = number.parse().map_err(|_| format!("has '{}' for an image's number", shown(number)))?;
        if name == "." || name == ".." || name.contains(['/', '\\', '\0']) {
            return Err("has a name that is no folder's".into());
        }
        Ok((name.to_string(), number))
    };
    let (images, same) = match words[..] {
        [name, n, m] => ([image(name, n)?, image(name, m)?], true),
        [name, n, other, m] => ([image(name, n)?, image(other, m)?], false),
        _ => return Err(format!("has {} columns; a pair has 3 or 4", words.len())),
    };
    Ok(ListedPair { images, same, fold })
}

/// The beginning of a line, for a message.
fn shown(line: &str) -> String {
    let start: String = line.chars().take(40).collect();
    if start.len() < line.len() { start + "…" } else { start }
}

/// The images of `pairs`, of each person in a folder of `root`, or of its train/, test/ or val/.
///
/// # Errors
/// [`Error::Data`] for a person without a folder, or an image that is not there.
pub fn images_of_pairs(pairs: &[ListedPair], root: &Path, exif: Exif) -> Result<PairImages> {
    let mut people: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    let mut places: BTreeMap<&Named, usize> = BTreeMap::new();
    let (mut paths, mut labels, mut of_pairs) = (Vec::new(), Vec::new(), Vec::new());
    for pair in pairs {
        let mut own = [0; 2];
        for (place, named) in own.iter_mut().zip(&pair.images) {
            if !people.contains_key(named.0.as_str()) {
                people.insert(&named.0, files_of(root, &named.0)?);
            }
            *place = match places.get(named) {
                Some(place) => *place,
                None => {
                    paths.push(file_of(named, &people[named.0.as_str()], root)?);
                    places.insert(named, places.len());
                    places.len() - 1
                }
            };
        }
        of_pairs.push(own);
    }
    let numbers: BTreeMap<&str, u32> = people.keys().copied().zip(0..).collect();
    let mut named: Vec<(&&Named, &usize)> = places.iter().collect();
    named.sort_by_key(|(_, place)| **place);
    labels.extend(named.iter().map(|(named, _)| numbers[named.0.as_str()]));
    let split = Split { images: Images::Files(exif), labels, paths };
    Ok(PairImages { split, places: of_pairs })
}

/// The images in the folders of the person `name`, in order.
fn files_of(root: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let halves = std::iter::once("train").chain(HeldOut::ALL.map(HeldOut::name));
    let places = std::iter::once(root.to_path_buf()).chain(halves.map(|half| root.join(half)));
    let folders: Vec<PathBuf> =
        places.map(|place| place.join(name)).filter(|folder| folder.is_dir()).collect();
    if folders.is_empty() {
        return Err(Error::data(root, format!("has no folder '{name}', of which the pairs name images")));
    }
    let found: Vec<Vec<PathBuf>> = folders.iter().map(|folder| images_in(folder)).collect::<Result<_>>()?;
    Ok(found.concat())
}

/// The file of an image of a person whose images are `files`.
fn file_of((name, number): &Named, files: &[PathBuf], root: &Path) -> Result<PathBuf> {
    let stem = |path: &PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let called =
        |stem: &str| stem.strip_prefix(&format!("{name}_")).is_some_and(|rest| rest.parse::<u32>().is_ok());
    let as_in_lfw = files.iter().filter_map(stem).any(|stem| called(&stem));
    let wanted = format!("{name}_{number:04}");
    let found = match as_in_lfw {
        true => files.iter().find(|path| stem(path).as_deref() == Some(&wanted)),
        false => (*number as usize).checked_sub(1).and_then(|place| files.get(place)),
    };
    found.cloned().ok_or_else(|| {
        let what = format!("has no image {number} of '{name}', of whom it has {}", files.len());
        Error::data(root, what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(folds: usize, each: usize) -> String {
        let mut text = format!("{folds}\t{each}\n");
        for fold in 0..folds {
            (0..each).for_each(|i| text += &format!("Ada_{fold}\t{}\t{}\n", i + 1, i + 2));
            (0..each).for_each(|i| text += &format!("Ada_{fold}\t{}\tBob_{fold}\t1\n", i + 1));
        }
        text
    }

    #[test]
    fn three_columns_are_one_person_and_four_are_two() {
        let pairs = parse(&lines(10, 3)).unwrap();
        assert_eq!(pairs.len(), 60);
        assert!(pairs.iter().enumerate().all(|(place, pair)| pair.fold == place / 6));
        assert!(pairs.iter().enumerate().all(|(place, pair)| pair.same == (place % 6 < 3)));
        assert_eq!(pairs[4].images, [("Ada_0".into(), 2), ("Bob_0".into(), 1)]);
        // Spaces, a mark of byte order taken off before, lines of Windows, and an empty last line.
        let spaced = lines(2, 1).replace('\t', " ").replace('\n', "\r\n") + "\r\n";
        assert_eq!(parse(&spaced).unwrap().len(), 4);
        // A name may have spaces between tabs.
        let named = "2\t1\nJo Li\t1\t2\nJo Li\t1\tB\t2\nJo Li\t1\t2\nJo Li\t1\tB\t2\n";
        assert_eq!(parse(named).unwrap()[1].images[0].0, "Jo Li");
    }

    #[test]
    fn what_is_no_list_of_pairs_is_refused_in_a_sentence() {
        let good = lines(2, 2);
        for (text, says) in [
            (String::new(), "begins with ''"),
            ("1100\n".into(), "begins with '1100'"),
            ("10 x\n".into(), "begins with '10 x'"),
            ("0 5\n".into(), "two folds"),
            ("1 5\n".into(), "two folds"),
            (format!("{} {}\n", usize::MAX, usize::MAX), "two folds"),
            ("1000000 1000000\n".into(), "ends after 0 of the 2000000000000"),
            (good.lines().take(8).collect::<Vec<_>>().join("\n"), "ends after 7 of the 8"),
            (good.clone() + "A\t1\t2\n", "more pairs than the 8"),
            (good.replacen("Ada_0\t1\t2\n", "Ada_0\t1\t2\t3\t4\n", 1), "has 5 columns"),
            (good.replacen("Ada_0\t1\t2", "Ada_0\t1\t-2", 1), "line 2: 'Ada_0\t1\t-2' has '-2'"),
            (good.replacen("Ada_0\t1\t2", "..\t1\t2", 1), "no folder's"),
            (good.replacen("Ada_0\t1\t2", "a/b\t1\t2", 1), "no folder's"),
            (good.replacen("Ada_0\t1\t2", "Ada_0\t1\tB\t2", 1), "has 1 pairs of one person in fold 1"),
        ] {
            let said = parse(&text).unwrap_err();
            assert!(said.contains(says) && !said.contains('\n'), "{said}");
        }
    }
}
