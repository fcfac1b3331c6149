import cluster from 'node:cluster';

/** Forks this program into so many workers; prints `listening on PORT` when all of them serve the port. */
export function forkWorkers(workers) {
  let listening = 0;
  cluster.on('listening', (_, { port }) => {
    if (++listening === workers) console.log(`listening on ${port}`);
  });
  for (let i = 0; i < workers; i++) cluster.fork();
}
