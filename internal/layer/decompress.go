package layer

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// The first bytes of compressed streams.
var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// CompressionOf tells how a layer is compressed by its first bytes, "" for not.
func CompressionOf(head []byte) plan.Compression {
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		return plan.Gzip
	case bytes.HasPrefix(head, zstdMagic):
		return plan.Zstd
	}
	return ""
}

// CompressionOfMediaType tells the same by a layer's media type.
func CompressionOfMediaType(mediaType string) plan.Compression {
	switch {
	case strings.HasSuffix(mediaType, "+gzip"), strings.HasSuffix(mediaType, ".gzip"):
		return plan.Gzip
	case strings.HasSuffix(mediaType, "+zstd"), strings.HasSuffix(mediaType, ".zstd"):
		return plan.Zstd
	}
	return ""
}

// Decompress returns the tar in a layer.
func Decompress(layer io.Reader) (io.Reader, func(), error) {
	head := make([]byte, len(zstdMagic))
	n, err := io.ReadFull(layer, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	whole := io.MultiReader(bytes.NewReader(head[:n]), layer)
	switch CompressionOf(head[:n]) {
	case plan.Gzip:
		z, err := gzip.NewReader(whole)
		return z, func() {}, err
	case plan.Zstd:
		z, err := zstd.NewReader(whole, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return whole, func() {}, nil
}
