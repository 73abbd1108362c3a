import { height } from './units';

export interface Tide { at: string; metres: number }
export let count = 0;

export function describe({ at, metres }: Tide): string {
  count += 1;
  return `${at}: ${height(metres as number)}`;
}
export const unit = 'm';
