// Allocations in Rust: in closures behind trait objects, in a sort, and while a
// panic unwinds.
use std::collections::BTreeMap;
use std::panic;

// What is read this way is not optimised away.
fn keep<T: Copy>(v: T) -> T {
    unsafe { std::ptr::read_volatile(&v) }
}

extern "C" {
    fn malloc(n: usize) -> *mut u8;
    fn free(p: *mut u8);
}

#[no_mangle]
#[inline(never)]
pub fn leaf(n: usize) -> usize {
    let p = unsafe { malloc(n) };
    let v = keep(p) as usize;
    unsafe { free(p) };
    keep(v)
}

struct Guard(usize);
impl Drop for Guard {
    #[inline(never)]
    fn drop(&mut self) {
        keep(leaf(self.0));
    }
}

#[no_mangle]
#[inline(never)]
fn unlucky(n: usize) -> usize {
    let _guard = Guard(n);
    if n > 0 {
        panic!("as planned {}", n);
    }
    n
}

#[no_mangle]
#[inline(never)]
fn apply(f: &dyn Fn(usize) -> usize, n: usize) -> usize {
    keep(f(n) + 1)
}

fn main() {
    panic::set_hook(Box::new(|_| {}));
    let mut map = BTreeMap::new();
    for i in 0..40usize {
        map.insert(i, vec![i; i + 1]);
    }
    let f = |n: usize| {
        let mut v: Vec<usize> = map.keys().copied().collect();
        v.sort_by(|a, b| {
            let r = panic::catch_unwind(|| unlucky(n));
            keep(r.is_err());
            b.cmp(a)
        });
        v[0] + n
    };
    println!("{}", apply(&f, 7));
}
