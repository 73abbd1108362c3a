import { unit } from './tide';
export const height = (metres: number): string => `${metres.toFixed(1)} ${unit}`;
