//! How the allocator is set up: jemalloc, which comes with RocksDB and serves the whole process, reads this when it
//! starts. `MALLOC_CONF` in the environment overrides it.

#![allow(unsafe_code, reason = "exporting a symbol under its own name; the text below is what jemalloc expects there")]

/// Records come and go by the hundred thousand, and their pages go back after a tenth of a second instead of ten, by a
/// thread of jemalloc's own: that halves the memory of a process at the same speed. Few arenas, because what one thread
/// fetches another frees.
const SETTINGS: &[u8; 69] = b"background_thread:true,dirty_decay_ms:100,muzzy_decay_ms:0,narenas:4\0";

// SAFETY: jemalloc declares this symbol as a weak pointer to a string that ends with a zero byte.
#[unsafe(no_mangle)]
#[used]
#[allow(non_upper_case_globals, reason = "the name is jemalloc's")]
static malloc_conf: &[u8; 69] = SETTINGS;
