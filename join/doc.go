// Package join lets a host into a closed cluster and keeps its certificate valid.
//
// The new host has a token. It asks one of the token's addresses over TLS that
// is pinned to the authority's hash (client.go), and sends the token's secret, a
// certificate request and its clock. The host there looks the token up, checks
// that the new one may come, and answers with a signed certificate, the
// authorities to believe and where the store is (server.go). The new host keeps
// all of it in its data-dir; the token is not needed again. Later it has its
// certificate renewed in the same way, known by the one it has.
package join
