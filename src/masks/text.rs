//! Run lengths as the text that COCO's files hold: "compressed" run lengths.
//!
//! A number is cut into groups of five bits, the lowest first. A character is 48 and a group, and
//! 32 more where another group follows; the highest bit of the last group is the sign. From the
//! fourth run on the number is the difference from the run before the one before it.

use super::Rle;
use crate::error::{Error, Result};

/// Groups of a number at most: differences of runs have 33 bits.
const MOST_GROUPS: u32 = 7;

impl Rle {
    /// The runs as COCO's text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (index, run) in self.runs().iter().enumerate() {
            let mut rest = i64::from(*run);
            if index > 2 {
                rest -= i64::from(self.runs()[index - 2]);
            }
            loop {
                let group = (rest & 31) as u8;
                rest >>= 5;
                let more = rest != if group & 16 != 0 { -1 } else { 0 };
                text.push(char::from(48 + group + if more { 32 } else { 0 }));
                if !more {
                    break;
                }
            }
        }
        text
    }

    /// The mask that COCO's `text` says.
    ///
    /// # Errors
    /// [`Error::Usage`] for a text that is none, and as [`Rle::from_runs`].
    pub fn from_text(height: usize, width: usize, text: &str) -> Result<Rle> {
        let mut runs: Vec<u32> = Vec::new();
        let mut bytes = text.bytes();
        while let Some(first) = bytes.next() {
            let before = if runs.len() > 2 { i64::from(runs[runs.len() - 2]) } else { 0 };
            let run = number(first, &mut bytes)? + before;
            runs.push(u32::try_from(run).map_err(|_| Error::Usage(format!("a run of {run} pixels")))?);
        }
        Rle::from_runs(height, width, runs)
    }
}

/// The number that begins with the character `first`.
fn number(first: u8, further: &mut impl Iterator<Item = u8>) -> Result<i64> {
    let (mut value, mut byte) = (0, first);
    for place in 0..MOST_GROUPS {
        let Some(group) = byte.checked_sub(48).filter(|group| *group < 64) else {
            return Err(Error::Usage(format!("byte {byte} is none of a mask's run lengths")));
        };
        value |= i64::from(group & 31) << (5 * place);
        if group & 32 == 0 {
            let negative = group & 16 != 0;
            return Ok(if negative { value - (1 << (5 * (place + 1))) } else { value });
        }
        byte =
            further.next().ok_or_else(|| Error::Usage("a mask's run lengths end within a number".into()))?;
    }
    Err(Error::Usage("a mask's run lengths have a number that is too long".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_none_are_refused_with_a_sentence() {
        for (text, why) in [
            ("1", "its runs are 1 pixels where 2×3 are 6"),
            ("0P", "end within a number"),
            ("6 ", "byte 32"),
            ("6\u{e9}", "byte 195"),
            ("O", "a run of -1 pixels"),
            ("PPPPPPP0", "too long"),
            ("", "its runs are 0 pixels"),
        ] {
            let refused = Rle::from_text(2, 3, text).unwrap_err().to_string();
            assert!(refused.contains(why), "{text:?}: {refused}");
        }
        assert!(Rle::from_text(20_000, 1, "0").is_err());
    }
}
