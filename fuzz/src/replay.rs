//! Run the functions of fuzz targets on their corpus, and on variations of it.

use std::{fs, path::Path};

/// The function behind a fuzz target.
pub type Target = (&'static str, fn(&[u8]));

/// Runs each target on its corpus and on this number of variations of every seed, the same in every run.
#[track_caller]
pub fn replay(targets: &[Target], variations: u64) {
    let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus"));
    for (name, target) in targets {
        let directory = corpus.join(name);
        let entries =
            fs::read_dir(&directory).unwrap_or_else(|error| panic!("{name} has no corpus: {error}"));
        let mut seeds: Vec<_> = entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
        seeds.sort();
        assert!(!seeds.is_empty(), "{name} has no corpus");
        for seed in &seeds {
            target(seed);
            for number in 0..variations {
                let other = &seeds[number as usize % seeds.len()];
                let input = varied(seed, other, number);
                let run = std::panic::catch_unwind(|| target(&input));
                assert!(run.is_ok(), "{name} fails on {:?}", String::from_utf8_lossy(&input));
            }
        }
    }
}

/// Numbers, delimiters and words on which parsers decide.
const PIECES: [&[u8]; 20] = [
    b"0",
    b"-1",
    b"18446744073709551616",
    b"\"",
    b"null",
    b"[]",
    b"{}",
    b":",
    b"::",
    b"/",
    b"@",
    b"\\u0000",
    b"\n",
    b"\xff",
    "\u{fc}".as_bytes(),
    b"..",
    b"%",
    b"'",
    b"1e999",
    b"sha256:",
];

/// The seed with a few bytes replaced, removed or inserted, or with a part of another seed.
fn varied(seed: &[u8], other: &[u8], number: u64) -> Vec<u8> {
    let mut random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut input = seed.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(9)).min(input.len());
        let piece = match random.below(4) {
            0 => Vec::new(),
            1 => PIECES[random.below(PIECES.len())].to_vec(),
            2 => vec![random.below(256) as u8],
            _ => {
                let from = random.below(other.len() + 1);
                other[from..(from + random.below(64)).min(other.len())].to_vec()
            }
        };
        input.splice(at..end, piece);
    }
    input
}

/// A linear congruential generator: the same variations everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }
}
