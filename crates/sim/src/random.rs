//! Numbers that follow from a seed alone, whatever the versions of libraries.

/// SplitMix64: good enough to choose by, and for ever the same.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of 0, 1, ... `end - 1`; 0 where there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        let drawn = self.next();
        if end == 0 { 0 } else { drawn % end }
    }

    /// One of `first`, ... `last`.
    pub fn between(&mut self, first: i64, last: i64) -> i64 {
        first + self.below((last - first + 1).max(0).cast_unsigned()).cast_signed()
    }

    /// Whether something happens that happens this many times in a thousand.
    pub fn chance(&mut self, in_a_thousand: u64) -> bool {
        self.below(1_000) < in_a_thousand
    }

    /// One of them. There must be one.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap_or(0)]
    }
}

/// From here on the jitter of this thread follows from the seed.
pub fn seed_jitter(seed: u64) {
    let mut random = Random::new(seed);
    dinnerbell_core::backoff::seed_jitter(move || 0.5 + random.below(501) as f64 / 1_000.0);
}
