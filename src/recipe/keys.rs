//! What each key of a recipe means: one row for each key, in the order of the structs. `sim show
//! --keys` and paper-notes/guide/keys.md are made from it, `tests/keys.rs` compares it with the
//! structs.

mod alternation;
mod images;
mod measured;
mod trained;

use super::key::Key;

const PARTS: [&[Key]; 4] = [alternation::ALTERNATION, images::IMAGES, trained::TRAINED, measured::MEASURED];

const COUNT: usize = PARTS[0].len() + PARTS[1].len() + PARTS[2].len() + PARTS[3].len();

/// Every key of a recipe.
pub const KEYS: &[Key] = &{
    let mut all = [PARTS[0][0]; COUNT];
    let (mut at, mut part) = (0, 0);
    while part < PARTS.len() {
        let mut row = 0;
        while row < PARTS[part].len() {
            all[at] = PARTS[part][row];
            (at, row) = (at + 1, row + 1);
        }
        part += 1;
    }
    all
};
