//! A grid of recipes: one arm with one or two of its keys set to lists of values.

use super::file::{ArmSpec, RECIPE, Study, check_name};
use super::nearest::hint;
use super::resolve::{Arm, Request, SEEDS_SAY, assignment, shown};
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// Values of a range at most; more are a slip of the hand.
const MOST_VALUES: usize = 65_536;

/// A key and its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The key as it was typed: a dotted one, or a flag of the study.
    pub key: String,
    /// The dotted key of the recipe.
    pub sets: String,
    /// The values in order, as TOML.
    pub values: Vec<String>,
    /// The arm that the flag says its values are like, where the key is a flag.
    like: Option<String>,
}

/// A cell of a grid.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Which value of each axis the cell has.
    pub place: Vec<usize>,
    /// Its recipe, named by its values: `m=0.8,k=10`.
    pub arm: Arm,
}

impl Study {
    /// Reads `KEY=V1,V2,…` or `KEY=FROM..TO:COUNT`, with `:log` behind it for equal ratios.
    ///
    /// # Errors
    /// [`Error::Usage`] for a key that neither the study's flags nor a recipe have, or for no
    /// values.
    pub fn axis(&self, over: &str) -> Result<Axis> {
        let fail = |what: String| Err(Error::Usage(format!("--over {over}: {what}")));
        let Some((key, list)) = over.split_once('=') else {
            return fail("expected key=v1,v2,… or key=from..to:count".into());
        };
        let (key, list) = (key.trim(), list.trim());
        let flag = self.head.flag.iter().find(|flag| flag.name == key);
        let sets = flag.map_or(key, |flag| flag.sets.as_str());
        let first = sets.split('.').next().unwrap_or_default();
        if !RECIPE.contains(&first) {
            let flags = self.head.flag.iter().map(|flag| flag.name.as_str());
            let hint = hint(key, flags.chain(RECIPE));
            return fail(format!("{} has no flag `{key}`, and a recipe no key `{first}`{hint}", self.name));
        }
        if sets == "seed" {
            return fail(SEEDS_SAY.into());
        }
        let values = match list.split_once("..") {
            Some((from, rest)) => range(from, rest),
            None => Ok(list.split(',').map(|value| value.trim().to_string()).collect()),
        };
        let values: Vec<String> = match values {
            Ok(values) => values,
            Err(what) => return fail(what),
        };
        if values.iter().any(String::is_empty) {
            return fail("an empty value; expected key=v1,v2,… or key=from..to:count".into());
        }
        let mut known = BTreeSet::new();
        // 0.5 and 0.50 are one value.
        let plain = |value: &String| value.parse::<f64>().map_or_else(|_| value.clone(), |v| v.to_string());
        let same = |index: &usize| !known.insert(plain(&values[*index]));
        if let Some(twice) = (0..values.len()).find(same) {
            return fail(format!("{} stands twice", values[twice]));
        }
        let like = flag.map(|flag| flag.like.clone());
        Ok(Axis { key: key.to_string(), sets: sets.to_string(), values, like })
    }

    /// The axes of `overs`, one or two.
    ///
    /// # Errors
    /// [`Error::Usage`], as for [`Study::axis`], and where two axes are one.
    pub fn axes(&self, overs: &[String]) -> Result<Vec<Axis>> {
        if !(1..=2).contains(&overs.len()) {
            return Err(Error::Usage(format!("--over {} times; a grid has one or two axes", overs.len())));
        }
        let axes: Vec<Axis> = overs.iter().map(|over| self.axis(over)).collect::<Result<_>>()?;
        if let [a, b] = axes.as_slice()
            && a.sets == b.sets
        {
            return Err(Error::Usage(format!("--over {}: {} has an axis already", overs[1], a.sets)));
        }
        Ok(axes)
    }

    /// The arm whose other keys all cells have: `asked`, or what the first axis that is a flag is
    /// like, or the first.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that no arm has.
    pub fn varied(&self, asked: Option<&str>, axes: &[Axis]) -> Result<&ArmSpec> {
        let like = axes.iter().find_map(|axis| axis.like.as_deref());
        let Some(name) = asked.or(like) else {
            return self.arms.first().ok_or_else(|| Error::Failure(format!("{} has no arm", self.name)));
        };
        self.arms.iter().find(|arm| arm.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
            let hint = hint(name, names.iter().copied());
            Error::Usage(format!("--arm {name}: unknown arm{hint} (arms: {})", names.join(", ")))
        })
    }

    /// The cell at `place` of `axes`.
    ///
    /// # Errors
    /// [`Error::Usage`] or [`Error::Config`] for a value that its key refuses.
    pub fn cell(&self, like: &ArmSpec, axes: &[Axis], place: Vec<usize>, request: &Request) -> Result<Cell> {
        let (mut overs, mut names, mut typed) = (Vec::new(), Vec::new(), Vec::new());
        for (axis, &index) in axes.iter().zip(&place) {
            let value = &axis.values[index];
            typed.push(format!("--over {}={value}", axis.key));
            let over = assignment(&typed[typed.len() - 1], &axis.sets, value)?;
            names.push(format!("{}={}", axis.key, shown(&over, value)));
            overs.push(over);
        }
        let name = names.join(",");
        check_name(&name).map_err(|what| Error::Usage(format!("--over: {what}")))?;
        let spec = ArmSpec { name, title: None, reference: false, at: None, ..like.clone() };
        let arm = self.vary(&spec, request, overs)?;
        let leaves = arm.tree.leaves();
        let there = |(axis, typed): (&Axis, &String)| {
            leaves.iter().any(|(key, entry)| *key == axis.sets && entry.origin.source.name == *typed)
        };
        if let Some(at) = axes.iter().zip(&typed).position(|both| !there(both)) {
            let axis = &axes[at];
            return Err(Error::Usage(format!(
                "--over {}: another axis or --set replaces {}, or the choice that it belongs to",
                axis.key, axis.sets
            )));
        }
        drop(leaves);
        Ok(Cell { place, arm })
    }

    /// Every cell, the first axis running fastest.
    ///
    /// # Errors
    /// As for [`Study::cell`].
    pub fn grid(&self, like: &ArmSpec, axes: &[Axis], request: &Request) -> Result<Vec<Cell>> {
        let [first, second @ ..] = axes else { return Ok(Vec::new()) };
        let rows = second.first().map_or(1, |axis| axis.values.len());
        let places = (0..rows).flat_map(|row| (0..first.values.len()).map(move |column| (column, row)));
        let place = |(column, row)| if second.is_empty() { vec![column] } else { vec![column, row] };
        places.map(|at| self.cell(like, axes, place(at), request)).collect()
    }
}

/// The values of `from..to:count` or `from..to:count:log`. Between whole numbers they stay whole
/// where the steps are, or the ratios are equal, as counts need it.
fn range(from: &str, rest: &str) -> std::result::Result<Vec<String>, String> {
    let shape = || "expected from..to:count or from..to:count:log, such as 0..1:5".to_string();
    let mut parts = rest.split(':');
    let (Some(to), Some(count), log, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(shape());
    };
    if log.is_some_and(|log| log != "log") {
        return Err(shape());
    }
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite()).ok_or_else(shape);
    let (low, high) = (number(from)?, number(to)?);
    let count: usize = count.trim().parse().map_err(|_| shape())?;
    if !(2..=MOST_VALUES).contains(&count) {
        return Err(format!("{count} values; a range has from 2 to {MOST_VALUES}"));
    }
    if log.is_some() && !(low > 0.0 && high > 0.0) {
        return Err("equal ratios need ends above 0".into());
    }
    let whole = [from, to].iter().all(|text| text.trim().parse::<i64>().is_ok());
    let step = (high - low) / (count - 1) as f64;
    let value = |index: usize| match log {
        // The ends as they were given, whatever powers round.
        _ if index == 0 => low,
        _ if index + 1 == count => high,
        Some(_) => low * (high / low).powf(index as f64 / (count - 1) as f64),
        None => low + step * index as f64,
    };
    // As few digits as leave the values where they are, to a hundredth of a step or of their size.
    let rounded = |value: f64, digits: usize| format!("{value:.digits$e}").parse::<f64>().unwrap_or(value);
    let near = |value: f64, digits: usize| {
        let most = if log.is_some() { value.abs() } else { step.abs() };
        (rounded(value, digits) - value).abs() <= 0.01 * most
    };
    let digits = (0..9).find(|digits| (0..count).all(|index| near(value(index), *digits))).unwrap_or(9);
    let text = |value: f64| match whole && (log.is_some() || step.fract() == 0.0) {
        true => format!("{}", value.round()),
        false => rounded(value, digits).to_string(),
    };
    let mut values: Vec<String> = (0..count).map(|index| text(value(index))).collect();
    values.dedup();
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_are_even_in_steps_or_in_ratios() {
        let of = |from, rest| range(from, rest).unwrap().join(" ");
        assert_eq!(of("0", "1:5"), "0 0.25 0.5 0.75 1");
        assert_eq!(of("1", "9:5"), "1 3 5 7 9");
        assert_eq!(of("1", "100:5:log"), "1 3 10 32 100");
        assert_eq!(of("1", "4:6:log"), "1 2 3 4", "whole numbers stand once");
        assert_eq!(of("1e-5", "1e-1:5:log"), "0.00001 0.0001 0.001 0.01 0.1");
        assert_eq!(of("0", "1:4"), "0 0.333 0.667 1");
        for (from, rest) in [("0", "1"), ("0", "1:1"), ("0", "1:5:lin"), ("0", "1:3:log"), ("x", "1:3")] {
            assert!(range(from, rest).is_err(), "{from}..{rest}");
        }
    }
}
