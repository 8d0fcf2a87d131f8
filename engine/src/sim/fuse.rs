//! Owns the end of an instance: after a number of calls of its ports it is dead, either before the effect of the
//! last one or after it. Must not know what the calls do.

use std::sync::{Arc, Mutex};

use crate::ports::Error;

#[derive(Debug, Default)]
struct State {
    /// Moments, two per call, until the end.
    left: Option<usize>,
    dead: bool,
}

/// Shared by all ports of an instance.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fuse(Arc<Mutex<State>>);

impl Fuse {
    pub(crate) fn burning(moments: usize) -> Self {
        Self(Arc::new(Mutex::new(State { left: Some(moments), ..State::default() })))
    }

    pub(crate) fn light(&self, moments: usize) {
        self.0.lock().expect("no test panics with it").left = Some(moments);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.lock().expect("no test panics with it").dead
    }

    pub(crate) fn before(&self) -> Result<(), Error> {
        self.moment()
    }

    pub(crate) fn after(&self) -> Result<(), Error> {
        self.moment()
    }

    fn moment(&self) -> Result<(), Error> {
        let mut state = self.0.lock().expect("no test panics with it");
        match &mut state.left {
            Some(0) => state.dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        if state.dead { Err(Error::Fatal("crashed".to_owned())) } else { Ok(()) }
    }
}
