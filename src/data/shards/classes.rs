//! Classes of images in shards, whose members say a number or a word each.

use super::index::Member;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// Classes by label.
pub struct Classes {
    /// Their names; none where images have no labels.
    pub names: Vec<String>,
    /// What members say of their classes, in the order of labels.
    said: Vec<Said>,
}

/// A class as a member says it: numbers come in their own order, words in that of texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Number(u64),
    Word(String),
}

impl Said {
    fn of(text: &str) -> Said {
        text.parse().map_or_else(|_| Said::Word(text.to_string()), Said::Number)
    }
}

impl Classes {
    /// No classes, where images have no labels, as tables may have none.
    #[cfg(feature = "parquet")]
    pub fn none() -> Classes {
        Classes { names: Vec::new(), said: Vec::new() }
    }

    /// The classes of both halves of the data set in `root`, each of which must have all of them:
    /// `labels` are what its members say. A number has the name that is `listed` at its place,
    /// where there is one.
    ///
    /// # Errors
    /// [`Error::Data`] where a class has no image in one of the halves.
    pub fn of(
        root: &Path,
        labels: &[String],
        listed: &[String],
        [train, test]: [&[&Member]; 2],
    ) -> Result<Classes> {
        let said = |members: &[&Member]| -> BTreeSet<Said> {
            let distinct: BTreeSet<u32> = members.iter().map(|member| member.label).collect();
            distinct.into_iter().map(|label| Said::of(&labels[label as usize])).collect()
        };
        let name = |said: &Said| match said {
            Said::Number(number) => {
                let listed = usize::try_from(*number).ok().and_then(|number| listed.get(number));
                listed.cloned().unwrap_or_else(|| number.to_string())
            }
            Said::Word(word) => word.clone(),
        };
        let (trained, tested) = (said(train), said(test));
        for (one, other, half) in [(&trained, &tested, "held-out"), (&tested, &trained, "training")] {
            if let Some(class) = one.difference(other).next() {
                let shown = match class {
                    Said::Number(number) => number.to_string(),
                    Said::Word(word) => word.clone(),
                };
                let what = format!("no {half} image is of class {shown}; both halves need every class");
                return Err(Error::data(root, what));
            }
        }
        let said: Vec<Said> = trained.into_iter().collect();
        Ok(Classes { names: said.iter().map(name).collect(), said })
    }

    /// The label of the class of which a member says `text`; 0 where images have no labels.
    pub fn label(&self, text: &str) -> u32 {
        self.said.binary_search(&Said::of(text)).unwrap_or_default() as u32
    }
}
