// Package tracefs defines and removes uprobe trace events and looks up trace
// event ids (Linux, Documentation/trace/uprobetracer.rst).
//
// It uses the tracefs that is mounted on the machine, or else mounts one of
// its own that has no place in the directory tree: nobody else sees it, and
// it vanishes with the process.
//
// On systems other than Linux the package is empty.
package tracefs
