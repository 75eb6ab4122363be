package peer

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate"
)

// BenchmarkSend measures a message's round trip, one at a time and many at a
// time. The message is answered with two bytes.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{100, 64 << 10, 1 << 20} {
		for _, parallel := range []int{1, 16} {
			b.Run(fmt.Sprintf("bytes=%d/parallel=%d", size, parallel), func(b *testing.B) {
				a := newAtlas()
				n1, n2 := a.open(b, "n1"), a.open(b, "n2")
				n2.HandleMessages(func(_ quorate.NodeID, message []byte, answer func([]byte)) { answer(message[:2]) })
				message := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.ResetTimer()
				var work sync.WaitGroup
				for w := range parallel {
					work.Go(func() {
						done := make(chan error, 1)
						for i := w; i < b.N; i += parallel {
							n1.Send(nodeID("n2"), laneData, message, time.Minute, func(_ []byte, err error) { done <- err })
							if err := <-done; err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				work.Wait()
			})
		}
	}
}

// BenchmarkCall measures a unary call.
func BenchmarkCall(b *testing.B) {
	for _, size := range []int{100, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			a := newAtlas()
			n1, n2 := a.open(b, "n1"), a.open(b, "n2")
			n2.Handle("m", func(_ context.Context, _ quorate.NodeID, request []byte) ([]byte, error) { return request[:2], nil })
			request := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := n1.Call(b.Context(), nodeID("n2"), "m", request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStream measures the elements of one stream.
func BenchmarkStream(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			a := newAtlas()
			n1, n2 := a.open(b, "n1"), a.open(b, "n2")
			n2.HandleStream("m", func(_ context.Context, _ quorate.NodeID, _ []byte, send func([]byte) error) error {
				element := make([]byte, size)
				for {
					if err := send(element); err != nil {
						return err
					}
				}
			})
			recv, err := n1.Stream(b.Context(), nodeID("n2"), "m", nil)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := recv(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
