package wire

import (
	"bytes"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
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
		isCommonReceipt(kind.Send.GetReceipt())
}

// isCommonReceipt reports whether a receipt has no more than an id and counts.
func isCommonReceipt(r *controlv1.Receipt) bool {
	return r == nil || len(r.GetDropped()) == 0 && r.GetUnmatched() == nil &&
		len(r.GetUnreachableHubs()) == 0 && r.GetDiscoveryStaleFor() == nil &&
		utf8.ValidString(r.GetMessageId()) && isPlain(r)
}

func sizeResponse(r *peerv1.DataResponse) int {
	if body, ok := r.GetBody().(*peerv1.DataResponse_Result); ok {
		return sizeMessage(sizeResult(body.Result))
	}
	return sizeMessage(sizeResults(r.GetBatch()))
}

func sizeResults(b *peerv1.ForwardResultBatch) int {
	size := sizeNumber(b.GetBegun())
	for _, r := range b.GetResults() {
		size += sizeMessage(sizeResult(r))
	}
	return size
}

func sizeResult(r *peerv1.ForwardResult) int {
	return sizeNumber(r.GetSequence()) + sizeMessage(sizeSendResult(r.GetSend()))
}

func sizeSendResult(r *peerv1.SendResult) int {
	size := sizeChunk(len(r.GetMatchedNames()))
	if receipt := r.GetReceipt(); receipt != nil {
		size += sizeMessage(sizeReceipt(receipt))
	}
	return size
}

func sizeReceipt(r *controlv1.Receipt) int {
	size := sizeChunk(len(r.GetMessageId())) + sizeNumber(protowire.EncodeBool(r.GetDuplicate()))
	for _, c := range countsOf(r) {
		size += sizeNumber(c.number)
	}
	return size
}

// count is a count of a receipt on the wire.
type count struct {
	key    key
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
	b = startMessage(b, resultsKey, sizeResults(batch))
	b = appendNumber(b, begunKey, batch.GetBegun())
	for _, result := range batch.GetResults() {
		b = appendResult(b, batchedResultKey, result)
	}
	return b
}

func appendResult(b []byte, k key, r *peerv1.ForwardResult) []byte {
	b = startMessage(b, k, sizeResult(r))
	b = appendNumber(b, resultSequenceKey, r.GetSequence())
	send := r.GetSend()
	b = startMessage(b, sendResultKey, sizeSendResult(send))
	if receipt := send.GetReceipt(); receipt != nil {
		b = startMessage(b, receiptKey, sizeReceipt(receipt))
		b = appendChunk(b, messageIDKey, receipt.GetMessageId())
		for _, c := range countsOf(receipt) {
			b = appendNumber(b, c.key, c.number)
		}
		b = appendNumber(b, duplicateKey, protowire.EncodeBool(receipt.GetDuplicate()))
	}
	return appendChunk(b, matchedNamesKey, send.GetMatchedNames())
}

// decodeResponse decodes b into an empty message, which does not keep b.
func decodeResponse(b []byte, into *peerv1.DataResponse) bool {
	r := reader{rest: b}
	if !r.next() || len(r.rest) > 0 {
		return false
	}
	switch r.key {
	case resultKey:
		result, common := decodeResult(r.bytes)
		if common {
			into.Body = &peerv1.DataResponse_Result{Result: result}
		}
		return common
	case resultsKey:
		batch := &peerv1.ForwardResultBatch{}
		rest := r.bytes
		if begun := (reader{rest: rest}); begun.next() && begun.key == begunKey {
			batch.Begun, rest = begun.number, begun.rest
		}
		var common bool
		if batch.Results, common = decodeAll(rest, batchedResultKey, decodeResult); common {
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
	result, r := &one.result, reader{rest: b}
	for r.next() {
		switch {
		case r.key == resultSequenceKey:
			result.Sequence = r.number
		case r.key == sendResultKey && result.Result == nil &&
			decodeSendResult(r.bytes, &one.send, &one.receipt):
			one.kind.Send, result.Result = &one.send, &one.kind
		default:
			return nil, false
		}
	}
	return result, !r.failed && result.Result != nil
}

// decodeSendResult decodes a SendResult with its receipt in `receipt`.
func decodeSendResult(b []byte, into *peerv1.SendResult, receipt *controlv1.Receipt) bool {
	r := reader{rest: b}
	for r.next() {
		switch {
		case r.key == receiptKey && into.Receipt == nil && decodeReceipt(r.bytes, receipt):
			into.Receipt = receipt
		case r.key == matchedNamesKey:
			into.MatchedNames = bytes.Clone(r.bytes)
		default:
			return false
		}
	}
	return !r.failed
}

func decodeReceipt(b []byte, into *controlv1.Receipt) bool {
	r := reader{rest: b}
	for r.next() {
		number := int32(r.number) //nolint:gosec // as protobuf means it
		switch r.key {
		case messageIDKey:
			if !utf8.Valid(r.bytes) {
				return false
			}
			into.MessageId = string(r.bytes)
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
			into.Duplicate = protowire.DecodeBool(r.number)
		default:
			return false
		}
	}
	return !r.failed
}
