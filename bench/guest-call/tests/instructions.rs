//! That a call of the module costs no more instructions than it did. Run by `./mill test guest-call`.

use std::env;
use std::path::Path;

use millrace_guest_call::instructions::{compare, count, expected};

#[test]
fn a_call_costs_what_it_did() {
    let modules = env::var("MILLRACE_TEST_WASM").expect("run this through ./mill test guest-call");
    let module = Path::new(&modules).join("guest_wordcount.wasm");
    let counts = count(Path::new(env!("CARGO_BIN_EXE_millrace-guest-call")), &module).unwrap();
    println!("{counts:#?}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt");
    compare(&counts, &expected(&file).unwrap()).unwrap();
}
