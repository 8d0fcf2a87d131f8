//! As many instances as a large process has tasks.

use super::*;

#[test]
fn a_thousand_instances_live_side_by_side() {
    let module = module(&[]);
    let mut live: Vec<_> = (0..1000).map(|partition| (module.instantiate(task(partition)), context())).collect();
    for (guest, context) in &mut live {
        guest.reset(context).unwrap();
    }
    for (guest, context) in &mut live {
        assert_eq!(said(&process(guest, context, &["still-here"]).unwrap()), ["still-here"]);
    }
}
