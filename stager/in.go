// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
	"golang.org/x/sync/errgroup"
)

const (
	// parallel is how many requests are under way at a time.
	parallel = 16
	// part is how many bytes of a large object one request brings.
	part = 16 << 20
	// openToAll is for what the program writes: its user may be another one than the stager's, and nobody else is in the pod.
	openToAll = 0o777
)

func stageIn(ctx context.Context, job *Job) (Carried, error) {
	if err := makeFolders(job); err != nil {
		return Carried{}, err
	}
	opened := &buckets{}
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(parallel)
	fetch := &fetcher{opened, work}
	for _, input := range job.In {
		if err := fetch.input(ctx, job.Root, input); err != nil {
			_ = work.Wait()
			return Carried{}, err
		}
	}
	for _, file := range job.Files {
		work.Go(func() error { return fetch.file(ctx, filepath.Join(job.Root, file.Path), file) })
	}
	if job.Checkpoint != nil {
		if err := fetch.checkpoint(ctx, job); err != nil {
			_ = work.Wait()
			return Carried{}, err
		}
	}
	if job.Source != nil {
		work.Go(func() error { return fetch.source(ctx, filepath.Join(job.Root, "source"), *job.Source) })
	}
	if err := work.Wait(); err != nil {
		return Carried{}, err
	}
	return verify(job)
}

// makeFolders makes what the program finds, where nobody has: a step without inputs has no "stager in".
func makeFolders(job *Job) error {
	syscall.Umask(0)
	written := []string{"outputs", "tmp"}
	if job.Source != nil {
		written = append(written, "source")
	}
	if job.Checkpoint != nil {
		written = append(written, "checkpoint")
	}
	for name, file := range job.Out.Outputs {
		if file != "" {
			written = append(written, path.Dir(path.Join("outputs", name, file)))
		}
	}
	for _, folder := range written {
		if err := os.MkdirAll(filepath.Join(job.Root, folder), openToAll); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(job.Root, "inputs"), 0o755)
}

type fetcher struct {
	opened *buckets
	work   *errgroup.Group
}

// input brings a file, or a folder: which of the two it is, the store says.
func (f *fetcher) input(ctx context.Context, root string, input Input) error {
	bucket, err := f.opened.get(ctx, input.Bucket)
	if err != nil {
		return err
	}
	target := filepath.Join(root, "inputs", input.Path)
	var attributes *blob.Attributes
	err = again(ctx, func() (err error) {
		attributes, err = bucket.Attributes(ctx, input.Key)
		return err
	})
	if err == nil {
		return f.object(ctx, bucket, input.Key, target, attributes.Size)
	}
	if gcerrors.Code(err) != gcerrors.NotFound {
		return fmt.Errorf("%s cannot be read: %w", input.URI, err)
	}
	found, err := f.tree(ctx, bucket, input.Key, target)
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w", input.URI, err)
	}
	if found == 0 {
		return artifactf("%s is gone from the store; clear the step that made it to make it again", input.URI)
	}
	return nil
}

// tree brings everything below a key, and says how many files that is.
func (f *fetcher) tree(ctx context.Context, bucket *blob.Bucket, key, target string) (int, error) {
	prefix := strings.TrimSuffix(key, "/") + "/"
	objects := bucket.List(&blob.ListOptions{Prefix: prefix})
	found := 0
	for {
		object, err := objects.Next(ctx)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
		relative := strings.TrimPrefix(object.Key, prefix)
		if relative == "" || strings.HasSuffix(relative, "/") {
			continue // a marker that some tools put in place of a folder
		}
		if !isInside(relative) {
			return found, artifactf("the store holds %q, which is no path within a folder", object.Key)
		}
		found++
		if err := f.object(ctx, bucket, object.Key, filepath.Join(target, relative), object.Size); err != nil {
			return found, err
		}
	}
}

// object brings one object, a large one in parts side by side.
func (f *fetcher) object(ctx context.Context, bucket *blob.Bucket, key, target string, size int64) error {
	if err := os.MkdirAll(filepath.Dir(target), openToAll); err != nil {
		return err
	}
	if size <= 2*part {
		f.work.Go(func() error {
			return again(ctx, func() error { return whole(ctx, bucket, key, target, size) })
		})
		return nil
	}
	file, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	for offset := int64(0); offset < size; offset += part {
		f.work.Go(func() error {
			return again(ctx, func() error { return piece(ctx, bucket, key, target, offset, min(part, size-offset)) })
		})
	}
	return nil
}

func whole(ctx context.Context, bucket *blob.Bucket, key, target string, size int64) error {
	reader, err := bucket.NewReader(ctx, key, nil)
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w", key, err)
	}
	defer reader.Close()
	file, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	count, err := io.Copy(file, reader)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("%s cannot be brought: %w", key, err)
	}
	if count != size {
		return fmt.Errorf("%s: %d bytes came, and the store said %d", key, count, size)
	}
	return nil
}

func piece(ctx context.Context, bucket *blob.Bucket, key, target string, offset, length int64) error {
	reader, err := bucket.NewRangeReader(ctx, key, offset, length, nil)
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w", key, err)
	}
	defer reader.Close()
	file, err := os.OpenFile(target, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	count, err := io.Copy(io.NewOffsetWriter(file, offset), reader)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("%s cannot be brought: %w", key, err)
	}
	if count != length {
		return fmt.Errorf("%s: %d bytes came at %d, and %d were asked for", key, count, offset, length)
	}
	return nil
}

func (f *fetcher) file(ctx context.Context, target string, file File) error {
	bucket, err := f.opened.get(ctx, file.Bucket)
	if err != nil {
		return err
	}
	var content []byte
	err = again(ctx, func() (err error) {
		content, err = bucket.ReadAll(ctx, file.Key)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w", file.Key, err)
	}
	return os.WriteFile(target, content, 0o644)
}

func (f *fetcher) checkpoint(ctx context.Context, job *Job) error {
	bucket, err := f.opened.get(ctx, job.Checkpoint.Bucket)
	if err != nil {
		return err
	}
	_, err = f.tree(ctx, bucket, job.Checkpoint.Key, filepath.Join(job.Root, "checkpoint"))
	return err
}

// source unpacks step code, which the package has packed: files and folders with relative names, nothing else.
func (f *fetcher) source(ctx context.Context, target string, source File) error {
	bucket, err := f.opened.get(ctx, source.Bucket)
	if err != nil {
		return err
	}
	reader, err := bucket.NewReader(ctx, source.Key, nil)
	if err != nil {
		return fmt.Errorf("the step code %s cannot be read: %w", source.Key, err)
	}
	defer reader.Close()
	digest := sha256.New()
	teed := io.TeeReader(reader, digest)
	archive := tar.NewReader(teed)
	for {
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("the step code %s cannot be unpacked: %w", source.Key, err)
		}
		name := strings.TrimSuffix(entry.Name, "/")
		if !isInside(name) || (entry.Typeflag != tar.TypeReg && entry.Typeflag != tar.TypeDir) {
			return artifactf("the step code %s holds %q, which is no file or folder in it", source.Key, entry.Name)
		}
		if err := unpack(archive, filepath.Join(target, name), entry); err != nil {
			return fmt.Errorf("the step code %s cannot be unpacked: %w", source.Key, err)
		}
	}
	if _, err := io.Copy(io.Discard, teed); err != nil {
		return err
	}
	if found := "sha256:" + hex.EncodeToString(digest.Sum(nil)); found != source.Digest {
		return artifactf("%s was changed since it was packed: it has digest %s, and %s was packed; clear the step to pack the code anew", source.Key, found, source.Digest)
	}
	return nil
}

func unpack(archive *tar.Reader, target string, entry *tar.Header) error {
	if entry.Typeflag == tar.TypeDir {
		return os.MkdirAll(target, openToAll)
	}
	if err := os.MkdirAll(filepath.Dir(target), openToAll); err != nil {
		return err
	}
	mode := os.FileMode(0o666)
	if entry.Mode&0o100 != 0 {
		mode = 0o777
	}
	file, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, archive)
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

// verify compares what came with what was committed.
func verify(job *Job) (Carried, error) {
	carried := Carried{}
	for _, input := range job.In {
		target := filepath.Join(job.Root, "inputs", input.Path)
		found, isTree, err := scan(target)
		if err != nil {
			return carried, err
		}
		size := carried.add(found)
		if input.Size != nil && size != *input.Size {
			return carried, artifactf("%s was changed after its commit: it has %d bytes, and %d were committed; clear the step that made it to make it again", input.URI, size, *input.Size)
		}
		if input.Digest == "" {
			continue
		}
		if err := hashAll(target, found); err != nil {
			return carried, err
		}
		if digest := digestOf(found, isTree); digest != input.Digest {
			return carried, artifactf("%s was changed after its commit: it has digest %s, and %s was committed; clear the step that made it to make it again", input.URI, digest, input.Digest)
		}
	}
	return carried, nil
}

func hashAll(target string, files []Sealed) error {
	work := errgroup.Group{}
	work.SetLimit(parallel)
	for i := range files {
		work.Go(func() (err error) {
			files[i].Sha256, err = hashFile(filepath.Join(target, files[i].Path))
			return err
		})
	}
	return work.Wait()
}
