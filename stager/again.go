// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"time"

	"gocloud.dev/gcerrors"
)

const (
	// tries of one file, over some minutes: longer than a store that restarts or asks for less.
	tries        = 10
	firstPause   = 500 * time.Millisecond
	longestPause = 30 * time.Second
)

// again does something until it works, unless another try could not. The libraries try thrice by themselves, within a second.
func again(ctx context.Context, do func() error) error {
	pause := firstPause
	for try := 1; ; try++ {
		err := do()
		if err == nil || try == tries || ctx.Err() != nil || isForGood(err) {
			return err
		}
		fmt.Fprintf(os.Stderr, "try %d of %d: %v\n", try, tries, err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, longestPause)
	}
}

func isForGood(err error) bool {
	var no *refused
	var bad *badArtifact
	if errors.As(err, &no) || errors.As(err, &bad) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return true
	}
	switch gcerrors.Code(err) {
	case gcerrors.NotFound, gcerrors.InvalidArgument, gcerrors.PermissionDenied:
		return true
	}
	return false
}
