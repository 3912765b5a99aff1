package wire

import (
	"bytes"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/internal/protofield"
)

func isCommonResponse(r *peerv1.DataResponse) bool {
	switch body := r.GetBody().(type) {
	case *peerv1.DataResponse_Result:
		return isPlain(r) && isCommonResult(body.Result)
	case *peerv1.DataResponse_Batch:
		return isPlain(r) && isPlain(body.Batch) && body.Batch != nil &&
			areAll(body.Batch.GetResults(), isCommonResult)
	default:
		return false
	}
}

func isCommonResult(r *peerv1.ForwardResult) bool {
	kind, ok := r.GetResult().(*peerv1.ForwardResult_Send)
	return ok && kind.Send != nil && isPlain(r) && isPlain(kind.Send) &&
		len(r.GetMoved()) == 0 && r.GetReturned() == nil && isCommonReceipt(kind.Send.GetReceipt())
}

// isCommonReceipt reports whether a receipt has no more than an id and counts.
func isCommonReceipt(r *controlv1.Receipt) bool {
	return r == nil || len(r.GetDropped()) == 0 && r.GetUnmatched() == nil &&
		r.GetInTransfer() == 0 &&
		len(r.GetUnreachableHubs()) == 0 && r.GetDiscoveryStaleFor() == nil &&
		utf8.ValidString(r.GetMessageId()) && isPlain(r)
}

func sizeResponse(r *peerv1.DataResponse) int {
	if body, ok := r.GetBody().(*peerv1.DataResponse_Result); ok {
		return protofield.SizeMessage(sizeResult(body.Result))
	}
	return protofield.SizeMessage(sizeResults(r.GetBatch()))
}

func sizeResults(b *peerv1.ForwardResultBatch) int {
	size := protofield.SizeNumber(b.GetBegun())
	for _, r := range b.GetResults() {
		size += protofield.SizeMessage(sizeResult(r))
	}
	return size
}

func sizeResult(r *peerv1.ForwardResult) int {
	return protofield.SizeNumber(r.GetSequence()) +
		protofield.SizeMessage(sizeSendResult(r.GetSend()))
}

func sizeSendResult(r *peerv1.SendResult) int {
	size := protofield.SizeChunk(len(r.GetMatchedNames()))
	if receipt := r.GetReceipt(); receipt != nil {
		size += protofield.SizeMessage(sizeReceipt(receipt))
	}
	return size
}

func sizeReceipt(r *controlv1.Receipt) int {
	size := protofield.SizeChunk(len(r.GetMessageId())) +
		protofield.SizeNumber(protowire.EncodeBool(r.GetDuplicate()))
	for _, c := range countsOf(r) {
		size += protofield.SizeNumber(c.number)
	}
	return size
}

// count is a count of a receipt on the wire.
type count struct {
	key    protofield.Key
	number uint64
}

func countsOf(r *controlv1.Receipt) [7]count {
	number := func(n int32) uint64 { return uint64(int64(n)) } //nolint:gosec // as protobuf has it
	return [...]count{
		{matchedKey, number(r.GetMatched())},
		{pendingKey, number(r.GetPending())},
		{queuedKey, number(r.GetQueued())},
		{queuedDetachedKey, number(r.GetQueuedDetached())},
		{writtenKey, number(r.GetWritten())},
		{ackedKey, number(r.GetAcked())},
		{notAckableKey, number(r.GetNotAckable())},
	}
}

func appendResponse(b []byte, r *peerv1.DataResponse) []byte {
	if body, ok := r.GetBody().(*peerv1.DataResponse_Result); ok {
		return appendResult(b, resultKey, body.Result)
	}
	batch := r.GetBatch()
	b = protofield.StartMessage(b, resultsKey, sizeResults(batch))
	b = protofield.AppendNumber(b, begunKey, batch.GetBegun())
	for _, result := range batch.GetResults() {
		b = appendResult(b, batchedResultKey, result)
	}
	return b
}

func appendResult(b []byte, k protofield.Key, r *peerv1.ForwardResult) []byte {
	b = protofield.StartMessage(b, k, sizeResult(r))
	b = protofield.AppendNumber(b, resultSequenceKey, r.GetSequence())
	send := r.GetSend()
	b = protofield.StartMessage(b, sendResultKey, sizeSendResult(send))
	if receipt := send.GetReceipt(); receipt != nil {
		b = protofield.StartMessage(b, receiptKey, sizeReceipt(receipt))
		b = protofield.AppendChunk(b, messageIDKey, receipt.GetMessageId())
		for _, c := range countsOf(receipt) {
			b = protofield.AppendNumber(b, c.key, c.number)
		}
		b = protofield.AppendNumber(b, duplicateKey, protowire.EncodeBool(receipt.GetDuplicate()))
	}
	return protofield.AppendChunk(b, matchedNamesKey, send.GetMatchedNames())
}

// decodeResponse decodes b into an empty message, which does not keep b.
func decodeResponse(b []byte, into *peerv1.DataResponse) bool {
	r := protofield.Reader{Rest: b}
	if !r.Next() || len(r.Rest) > 0 {
		return false
	}
	switch r.Key {
	case resultKey:
		result, common := decodeResult(r.Bytes)
		if common {
			into.Body = &peerv1.DataResponse_Result{Result: result}
		}
		return common
	case resultsKey:
		batch := &peerv1.ForwardResultBatch{}
		rest := r.Bytes
		if begun := (protofield.Reader{Rest: rest}); begun.Next() && begun.Key == begunKey {
			batch.Begun, rest = begun.Number, begun.Rest
		}
		var common bool
		batch.Results, common = protofield.DecodeAll(rest, batchedResultKey, MaxBatch, decodeResult)
		if common {
			into.Body = &peerv1.DataResponse_Batch{Batch: batch}
		}
		return common
	default:
		return false
	}
}

// decodeResult decodes the result of a send.
func decodeResult(b []byte) (*peerv1.ForwardResult, bool) {
	var one struct { // a single allocation
		result  peerv1.ForwardResult
		kind    peerv1.ForwardResult_Send
		send    peerv1.SendResult
		receipt controlv1.Receipt
	}
	result, r := &one.result, protofield.Reader{Rest: b}
	for r.Next() {
		switch {
		case r.Key == resultSequenceKey:
			result.Sequence = r.Number
		case r.Key == sendResultKey && result.Result == nil &&
			decodeSendResult(r.Bytes, &one.send, &one.receipt):
			one.kind.Send, result.Result = &one.send, &one.kind
		default:
			return nil, false
		}
	}
	return result, !r.Failed && result.Result != nil
}

// decodeSendResult decodes a SendResult with its receipt in `receipt`.
func decodeSendResult(b []byte, into *peerv1.SendResult, receipt *controlv1.Receipt) bool {
	r := protofield.Reader{Rest: b}
	for r.Next() {
		switch {
		case r.Key == receiptKey && into.Receipt == nil && decodeReceipt(r.Bytes, receipt):
			into.Receipt = receipt
		case r.Key == matchedNamesKey:
			into.MatchedNames = bytes.Clone(r.Bytes)
		default:
			return false
		}
	}
	return !r.Failed
}

func decodeReceipt(b []byte, into *controlv1.Receipt) bool {
	r := protofield.Reader{Rest: b}
	for r.Next() {
		number := int32(r.Number) //nolint:gosec // as protobuf means it
		switch r.Key {
		case messageIDKey:
			if !r.StoreText(&into.MessageId) {
				return false
			}
		case matchedKey:
			into.Matched = number
		case pendingKey:
			into.Pending = number
		case queuedKey:
			into.Queued = number
		case queuedDetachedKey:
			into.QueuedDetached = number
		case writtenKey:
			into.Written = number
		case ackedKey:
			into.Acked = number
		case notAckableKey:
			into.NotAckable = number
		case duplicateKey:
			into.Duplicate = protowire.DecodeBool(r.Number)
		default:
			return false
		}
	}
	return !r.Failed
}
