package analyze

import (
	"context"
	"fmt"

	"github.com/tcap-dev/tcap/format"
)

// eachEvent gives the events of some kinds to a function, one after the other. What is
// damaged is left out: Describe tells of it. what names them in errors.
func eachEvent(ctx context.Context, r *format.Reader, kinds format.KindSet, what string, take func(*format.Event)) error {
	n := 0
	for e, err := range r.Events(format.Filter{Kinds: kinds}) {
		if isCorrupt(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", what, err)
		}
		if n%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n++
		take(e)
	}
	return nil
}
