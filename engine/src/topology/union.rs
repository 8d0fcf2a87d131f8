//! Owns one algorithm: which of `n` things are connected.

#[derive(Debug)]
pub(super) struct Union {
    parent: Vec<usize>,
}

impl Union {
    pub(super) fn new(count: usize) -> Self {
        Self { parent: (0..count).collect() }
    }

    pub(super) fn unite(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.parent[one] = other;
    }

    /// The same for all that are connected.
    pub(super) fn root(&mut self, of: usize) -> usize {
        let mut at = of;
        while self.parent[at] != at {
            // Halving the path keeps long chains fast.
            self.parent[at] = self.parent[self.parent[at]];
            at = self.parent[at];
        }
        at
    }
}
