// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob" // azblob://
	_ "gocloud.dev/blob/gcsblob"   // gs://
	_ "gocloud.dev/blob/s3blob"    // s3://
)

// buckets opens each bucket once. What a URL says beside the bucket is documented by gocloud.dev.
type buckets struct {
	mutex sync.Mutex
	open  map[string]*blob.Bucket
}

func (b *buckets) get(ctx context.Context, url string) (*blob.Bucket, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if found, ok := b.open[url]; ok {
		return found, nil
	}
	opened, err := blob.OpenBucket(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("the bucket %s cannot be opened: %w", url, err)
	}
	if b.open == nil {
		b.open = map[string]*blob.Bucket{}
	}
	b.open[url] = opened
	return opened, nil
}
