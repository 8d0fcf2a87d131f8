//! How far a long command is, for whoever watches. Must not know what it does.

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const TEMPLATE: &str = "{msg} {wide_bar} {human_pos}/{human_len} {eta}";
/// Of a length that is only an estimate.
const REDRAW: Duration = Duration::from_millis(200);

/// A bar on standard error, if that is a terminal: of so many steps, at most.
pub(super) fn bar(doing: &str, steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps).with_message(doing.to_owned());
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(REDRAW);
    bar
}

/// The same of a command that prints meanwhile: none if that goes to the same terminal.
pub(super) fn bar_beside_output(doing: &str, steps: u64) -> ProgressBar {
    let bar = bar(doing, steps);
    if stdout().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}
