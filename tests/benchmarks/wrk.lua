-- The totals of a run, as the last line of wrk's output.
done = function(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"answered": %d, "refused": %d, "failed": %d, "seconds": %.3f, "median_ms": %.3f, "p99_ms": %.3f}\n',
      summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
      summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
