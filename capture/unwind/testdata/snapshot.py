# Run by gdb: writes what a program's stops are made of, as JSON: registers, the
# stack's bytes, what is mapped, and gdb's own idea of the frames.
import base64, json, gdb

AMD64 = "rip rsp rbp rax rbx rcx rdx rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
ARM64 = ["pc", "sp"] + ["x%d" % i for i in range(31)]


def memory(start, size):
    return base64.b64encode(gdb.selected_inferior().read_memory(start, size).tobytes()).decode()


def frames():
    frame, out = gdb.newest_frame(), []
    while frame is not None and len(out) < 2000:
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            out.append({"pc": frame.pc(), "name": frame.name() or ""})
        try:
            frame = frame.older()
        except gdb.error:
            break
    return out


# The stack from sp upwards, at most so many bytes of it: to where memory ends,
# which not every target tells.
def stack(sp, size):
    low, high = 0, size // 16
    while low < high:
        middle = (low + high + 1) // 2
        try:
            gdb.selected_inferior().read_memory(sp, middle * 16)
            low = middle
        except gdb.MemoryError:
            high = middle - 1
    return memory(sp, low * 16) if low else ""


def mappings():
    out = []
    if gdb.selected_inferior().connection.type != "native":
        return out
    for line in open("/proc/%d/maps" % gdb.selected_inferior().pid):
        part = line.split(None, 5)
        start, end = (int(x, 16) for x in part[0].split("-"))
        out.append({"start": start, "end": end, "offset": int(part[2], 16), "exec": "x" in part[1], "path": part[5].strip() if len(part) > 5 else ""})
    return out


def stop(size):
    names = ARM64 if "aarch64" in gdb.selected_frame().architecture().name() else AMD64
    regs = {name: int(gdb.selected_frame().read_register(name)) & (1 << 64) - 1 for name in names}
    return {"regs": regs, "stack": stack(regs["rsp" if names is AMD64 else "sp"], size), "frames": frames()}


# Records the present stop, and those after each of so many commands.
def record(path, size, steps, command="stepi"):
    gdb.execute("set backtrace past-main on")
    gdb.execute("set backtrace past-entry on")
    stops = [stop(size)]
    for _ in range(steps):
        gdb.execute(command, to_string=True)
        stops.append(stop(size))
    maps = mappings()
    images = {m["path"]: memory(m["start"], m["end"] - m["start"]) for m in maps if m["path"] == "[vdso]"}
    with open(path, "w") as f:
        json.dump({"stops": stops, "maps": maps, "images": images}, f)
