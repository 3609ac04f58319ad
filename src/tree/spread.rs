//! A tree's folders, each visited once, by several threads.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::TreeError;

/// Threads beyond this number wait for the disk, not for a processor.
const MAX_THREADS: usize = 8;

/// Calls `visit` for the root (an empty path) and then for every folder that a visit answers with, a folder after the
/// one that named it. Ends with the first error.
pub(super) fn spread<V>(visit: V) -> Result<(), TreeError>
where
    V: Fn(&Path) -> Result<Vec<PathBuf>, TreeError> + Sync,
{
    let work = Work { state: Mutex::default(), changed: Condvar::new(), visit };
    work.state().waiting.push(PathBuf::new());
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| work.help());
        }
        work.help();
    });
    let state = work.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.failed.map_or(Ok(()), Err)
}

/// What the threads share.
struct Work<V> {
    state: Mutex<State>,
    changed: Condvar,
    visit: V,
}

#[derive(Default)]
struct State {
    /// Folders that were named and not visited yet.
    waiting: Vec<PathBuf>,
    /// Threads that are visiting one, and may yet name more.
    busy: usize,
    /// The first failure ends the work of all.
    failed: Option<TreeError>,
}

impl<V: Fn(&Path) -> Result<Vec<PathBuf>, TreeError> + Sync> Work<V> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Visits folders until none is left and no thread can name another.
    fn help(&self) {
        let mut state = self.state();
        while state.failed.is_none() {
            let Some(next) = state.waiting.pop() else {
                if state.busy == 0 {
                    break;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.busy += 1;
            drop(state);
            let found = (self.visit)(&next);
            state = self.state();
            state.busy -= 1;
            match found {
                Ok(found) => state.waiting.extend(found),
                Err(error) => state.failed = state.failed.take().or(Some(error)),
            }
            self.changed.notify_all();
        }
    }
}
