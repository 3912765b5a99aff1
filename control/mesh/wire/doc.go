// Package wire encodes and decodes the messages of lanes (connhub.peer.v1, DataRequest and
// DataResponse) that carry sends and their results.
//
// # Purpose
//
// A forwarded send is encoded and decoded at both ends of a lane, and so is its result. The general
// encoder and decoder of protobuf take about 1.6 times as long as package wire. The general decoder
// takes six objects for each send, and four for each result. Package wire takes two and one, and a
// further object for the bytes of a DataRequest.
//
// # Outline
//
//	codec.go     Codec, for gRPC's client of a lane and for the server of the hub
//	field.go     the keys of the fields; package protofield reads and writes them
//	request.go   DataRequest
//	response.go  DataResponse
//
// # The bytes are protobuf
//
// A peer needs no Codec. A message is of the common kind if it has only fields that are known here,
// and no message in it comes twice. The rest goes to the general encoder or decoder, so a peer of a
// later version may add fields. Tests check that both decoders agree, and that no field of the
// protos is lost.
//
// # Goroutines, locking, errors
//
// There are none: the functions are pure, and an error is the general decoder's.
package wire
