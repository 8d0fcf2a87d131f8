//! Owns the orders in which Java's collections hand out their elements, on which the text of a
//! Kafka Streams description rests: hash tables of strings, and a tree whose comparator changes
//! its mind while the tree grows. Must not know what the elements are.

use std::cmp::Ordering;

const MIN_CAPACITY: usize = 16;

/// The table size of a `HashSet` that grew to `count` elements one by one.
pub(super) fn grown(count: usize) -> usize {
    let mut capacity = MIN_CAPACITY;
    while count > capacity / 4 * 3 {
        capacity *= 2;
    }
    capacity
}

/// The table size of a `HashSet` made as a copy of `count` elements, as of Java 17.
pub(super) fn copied(count: usize) -> usize {
    (count * 4 / 3 + 1).max(MIN_CAPACITY).next_power_of_two()
}

/// Sorts the strings, given in the order of insertion, into the order of iteration.
pub(super) fn hash_order<T: AsRef<str>>(strings: &mut [T], capacity: usize) {
    // Elements of one bucket stay in the order of insertion: the sort is stable.
    strings.sort_by_key(|string| {
        let hash = string.as_ref().encode_utf16().fold(0_u32, |h, unit| h.wrapping_mul(31).wrapping_add(unit.into()));
        (hash ^ (hash >> 16)) as usize & (capacity - 1)
    });
}

/// `String.compareTo`.
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    one.encode_utf16().cmp(other.encode_utf16())
}

/// `java.util.TreeMap`'s red-black tree, without removal. Where an element ends up depends on
/// those it is compared with on its way down, so with an inconsistent comparator only the same
/// tree gives the same order.
#[derive(Debug, Default)]
pub(super) struct TreeSet {
    nodes: Vec<Node>,
    root: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    item: usize,
    parent: Option<usize>,
    left: Option<usize>,
    right: Option<usize>,
    red: bool,
}

impl TreeSet {
    pub(super) fn insert(&mut self, item: usize, compare: impl Fn(usize, usize) -> Ordering) {
        let mut parent = None;
        let mut at = self.root;
        let mut last = Ordering::Equal;
        while let Some(index) = at {
            last = compare(item, self.nodes[index].item);
            parent = at;
            at = match last {
                Ordering::Less => self.nodes[index].left,
                Ordering::Greater => self.nodes[index].right,
                Ordering::Equal => return,
            };
        }
        let new = self.nodes.len();
        self.nodes.push(Node { item, parent, left: None, right: None, red: true });
        match parent {
            None => self.root = Some(new),
            Some(parent) if last == Ordering::Less => self.nodes[parent].left = Some(new),
            Some(parent) => self.nodes[parent].right = Some(new),
        }
        self.rebalance(new);
    }

    pub(super) fn items(&self) -> Vec<usize> {
        let mut items = Vec::with_capacity(self.nodes.len());
        let mut above = Vec::new();
        let mut at = self.root;
        while at.is_some() || !above.is_empty() {
            while let Some(index) = at {
                above.push(index);
                at = self.nodes[index].left;
            }
            if let Some(index) = above.pop() {
                items.push(self.nodes[index].item);
                at = self.nodes[index].right;
            }
        }
        items
    }

    fn rebalance(&mut self, new: usize) {
        let mut at = new;
        while let Some(mut parent) = self.nodes[at].parent.filter(|&parent| self.nodes[parent].red) {
            // A red node is never the root, so its parent has one too.
            let Some(mut grandparent) = self.nodes[parent].parent else { break };
            let parent_is_left = self.nodes[grandparent].left == Some(parent);
            let uncle = if parent_is_left { self.nodes[grandparent].right } else { self.nodes[grandparent].left };
            if let Some(uncle) = uncle.filter(|&uncle| self.nodes[uncle].red) {
                self.nodes[parent].red = false;
                self.nodes[uncle].red = false;
                self.nodes[grandparent].red = true;
                at = grandparent;
                continue;
            }
            let inner = if parent_is_left { self.nodes[parent].right } else { self.nodes[parent].left };
            if inner == Some(at) {
                at = parent;
                self.rotate(at, parent_is_left);
                let Some(above) = self.nodes[at].parent else { break };
                parent = above;
                let Some(above) = self.nodes[parent].parent else { break };
                grandparent = above;
            }
            self.nodes[parent].red = false;
            self.nodes[grandparent].red = true;
            self.rotate(grandparent, !parent_is_left);
        }
        if let Some(root) = self.root {
            self.nodes[root].red = false;
        }
    }

    /// Lowers `at`, to the left or to the right, below the child of the other side.
    fn rotate(&mut self, at: usize, left: bool) {
        let Some(child) = (if left { self.nodes[at].right } else { self.nodes[at].left }) else { return };
        let inner = if left { self.nodes[child].left } else { self.nodes[child].right };
        if left {
            self.nodes[at].right = inner;
            self.nodes[child].left = Some(at);
        } else {
            self.nodes[at].left = inner;
            self.nodes[child].right = Some(at);
        }
        if let Some(inner) = inner {
            self.nodes[inner].parent = Some(at);
        }
        let parent = self.nodes[at].parent;
        self.nodes[child].parent = parent;
        self.nodes[at].parent = Some(child);
        match parent {
            None => self.root = Some(child),
            Some(parent) if self.nodes[parent].left == Some(at) => self.nodes[parent].left = Some(child),
            Some(parent) => self.nodes[parent].right = Some(child),
        }
    }
}
