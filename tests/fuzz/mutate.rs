//! Mutants of files: a pure function of (seed, number).

/// Longest mutant, in bytes.
const LONGEST: usize = 1 << 20;

/// SplitMix64: small, and the same everywhere.
pub struct Dice(u64);

impl Dice {
    /// The dice of mutant `number`.
    pub fn new(seed: u64, number: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }
}

/// Numbers at which programs go wrong.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// The same in texts, with what else texts go wrong at.
const WORDS: [&str; 26] = [
    "0",
    "-1",
    "1e308",
    "-1e308",
    "1e-308",
    "1e999",
    "NaN",
    "inf",
    "-inf",
    "nan",
    "18446744073709551615",
    "9223372036854775807",
    "-9223372036854775808",
    "4294967296",
    "65536",
    "null",
    "true",
    "\"\"",
    "[[",
    "{}",
    "=",
    "\n",
    "\r\n",
    "\u{feff}",
    "\u{1b}[31m",
    "..",
];

/// Mutant `number` of the files in `corpus`: one of them with one to eight changes.
pub fn mutant(seed: u64, number: u64, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut dice = Dice::new(seed, number);
    let mut bytes = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(8) {
        change(&mut bytes, corpus, &mut dice);
        bytes.truncate(LONGEST);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(bytes.len());
    let some = 1 + dice.below(16);
    let range = |bytes: &[u8], dice: &mut Dice| {
        let start = dice.below(bytes.len() + 1);
        let most = bytes.len() - start;
        let length = if dice.below(4) == 0 { most } else { most.min(64) };
        start..start + dice.below(length + 1)
    };
    match dice.below(10) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
        1 if !bytes.is_empty() => bytes[at] = dice.next() as u8,
        2 => {
            let fresh: Vec<u8> = (0..some).map(|_| dice.next() as u8).collect();
            bytes.splice(at..at, fresh);
        }
        3 => drop(bytes.drain(range(bytes, dice))),
        4 => {
            // The same part again and again, so that what is nested is nested deeply.
            let part = bytes[range(bytes, dice)].to_vec();
            let times = 1 << dice.below(13);
            let many = part.repeat(times.min(LONGEST / part.len().max(1)));
            bytes.splice(at..at, many);
        }
        5 => {
            let edge = EDGES[dice.below(EDGES.len())];
            let length = [1, 2, 4, 8][dice.below(4)];
            let (little, big) = (edge.to_le_bytes(), edge.to_be_bytes());
            let edge = if dice.below(2) == 0 { &little[..length] } else { &big[8 - length..] };
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, edge.iter().copied());
        }
        6 => {
            // A word of the text, which a number often is, becomes another.
            let part_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_+".contains(byte);
            let before = bytes[..at].iter().rev().take_while(|byte| part_of_word(byte)).count();
            let after = bytes[at..].iter().take_while(|byte| part_of_word(byte)).count();
            let word = WORDS[dice.below(WORDS.len())];
            bytes.splice(at - before..at + after, word.bytes());
        }
        7 => {
            let other = &corpus[dice.below(corpus.len())];
            let part = other[range(other, dice)].to_vec();
            let end = (at + dice.below(64)).min(bytes.len());
            bytes.splice(at..end, part);
        }
        8 => bytes.truncate(at),
        _ => {
            let part = bytes[range(bytes, dice)].to_vec();
            let end = (at + part.len()).min(bytes.len());
            bytes.splice(at..end, part);
        }
    }
}
